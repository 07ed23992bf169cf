"""The dispatcher: quick to start, helpful when misused, one line for a user's mistake."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import genus
from genus import cli


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=60
    )


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """Installs a verb `probe` whose main is the given function."""

    @dataclass(frozen=True)
    class Options:
        """A verb that exists only in this test."""

        size: int = 1
        """How big."""

    def install(function) -> None:
        module = ModuleType("genus.cli.probe")
        module.Options, module.main = Options, function
        monkeypatch.setitem(sys.modules, "genus.cli.probe", module)
        monkeypatch.setattr(cli, "verbs", lambda: {"probe": "a probe"})
        monkeypatch.delenv("GENUS_DEBUG", raising=False)

    return install


def raises(error: BaseException):
    def main(options) -> int:
        raise error

    return main


def test_help_lists_every_verb_that_exists(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    files = [path for path in Path(cli.__file__).parent.glob("*.py") if not path.stem.startswith("__")]
    present = {path.stem for path in files if "def main(" in path.read_text(encoding="utf-8")}
    listed = {line[2:].partition("  ")[0] for line in shown.splitlines() if line.startswith("  ")}
    assert {cli.module_name(name) for name in listed} == present


def test_no_arguments_show_the_help(capsys):
    assert cli.main([]) == 0
    assert "usage: genus VERB" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"genus {genus.__version__}\n"


def test_import_is_a_keyword():
    assert cli.module_name("import") == "import_"
    assert cli.module_name("train") == "train"


def test_a_verb_of_two_words(monkeypatch):
    monkeypatch.setattr(cli, "verbs", lambda: {"plan": "", "plan fit": ""})
    assert cli.module_name("plan fit") == "plan_fit"
    assert cli.split(["plan", "fit", "runs.csv"]) == ("plan fit", ["runs.csv"])
    assert cli.split(["plan", "./fit", "-o", "x"]) == ("plan", ["./fit", "-o", "x"])
    assert cli.split(["plan", "data", "fit"]) == ("plan", ["data", "fit"])
    assert cli.split(["plan"]) == ("plan", [])


def test_unknown_verb_names_the_nearest(capsys, verb):
    verb(raises(AssertionError()))
    assert cli.main(["prob"]) == 2
    assert "did you mean `genus probe`?" in capsys.readouterr().err
    assert cli.main(["xyz"]) == 2
    assert "`genus --help` lists the verbs" in capsys.readouterr().err


def test_options_reach_the_verb_and_its_status_comes_back(verb):
    verb(lambda options: options.size)
    assert cli.main(["probe", "--size", "7"]) == 7
    verb(lambda options: None)
    assert cli.main(["probe"]) == 0


def test_misspelt_option_names_the_nearest(capsys, verb):
    verb(lambda options: 0)
    with pytest.raises(SystemExit) as stop:
        cli.main(["probe", "--sise", "7"])
    assert stop.value.code == 2
    assert "--size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("depth must be positive"), "error: depth must be positive"),
        (
            FileNotFoundError(2, "No such file or directory", "corpus.txt"),
            "error: corpus.txt: No such file or directory",
        ),
        (FileExistsError("runs/a exists; give --overwrite"), "error: runs/a exists; give --overwrite"),
        (ModuleNotFoundError("pip install 'genus[data]'", name="ftfy"), "error: pip install 'genus[data]'"),
    ],
)
def test_a_users_mistake_is_one_line(capsys, verb, error, line):
    verb(raises(error))
    assert cli.main(["probe"]) == 2
    captured = capsys.readouterr()
    assert captured.err == line + "\n"
    assert captured.out == ""


def test_a_fault_of_ours_keeps_its_traceback(verb, monkeypatch):
    verb(raises(RuntimeError("broken")))
    with pytest.raises(RuntimeError):
        cli.main(["probe"])
    verb(raises(ModuleNotFoundError("No module named 'genus.nowhere'", name="genus.nowhere")))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])
    verb(raises(ValueError("seen in full")))
    monkeypatch.setenv("GENUS_DEBUG", "1")
    with pytest.raises(ValueError, match="seen in full"):
        cli.main(["probe"])


def test_interrupt(capsys, verb):
    verb(raises(KeyboardInterrupt()))
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_a_reader_that_leaves_early_is_no_error():
    writer = subprocess.Popen(
        [sys.executable, "-m", "genus", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stderr is not None
    writer.stdout.close()
    assert writer.stderr.read() == ""
    assert writer.wait(timeout=60) == 141


@pytest.mark.parametrize("start", ["import genus", "from genus.cli import main; main(['--help'])"])
def test_starting_imports_nothing_heavy(start):
    heavy = ["torch", "numpy", "tyro", "rich", "tokenizers", "pyarrow", "transformers"]
    done = python(f"{start}\nimport sys\nprint('loaded:', [m for m in {heavy} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("name", sorted(cli.verbs()))
def test_parsing_a_verb_does_not_import_torch(name):
    code = f"""
import sys
from genus.cli import main
try:
    main([*{name!r}.split(), '--help'])
except SystemExit as stop:
    assert stop.code == 0, stop.code
print('loaded:', [m for m in ('torch', 'transformers') if m in sys.modules])
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert f"usage: genus {name}" in done.stdout
