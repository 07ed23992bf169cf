"""`genus prepare` on the command line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from genus.cli import main
from genus.prepare import Dataset


@pytest.fixture
def texts(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(40):
        (tmp_path / "in" / f"{i:02d}.txt").write_text(f"Document {i} of forty.\nIt has a second line, 月.\n")
    return tmp_path / "in"


def test_the_account_and_the_next_command(texts: Path, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(texts), "-o", str(tmp_path / "my data"), "--tokenizer", "bytes"]) == 0
    out, progress = capsys.readouterr()
    assert re.search(r"29 more: 29 documents -> [\d,]+ tokens", out) and "by rank of document hash" in out
    assert re.search(r"train +36 documents -> .*characters per token", out) and "257 entries: bytes, lossless" in out
    assert "dropped\n│  └─ nothing" in out
    assert out.rstrip().splitlines()[-1].startswith(f"next: genus train gpt2 '{tmp_path}/my data' -o ")
    assert "reading" in progress and "tokenizing" in progress
    assert Dataset.open(tmp_path / "my data").split("train").documents == 36


def test_options_reach_the_data(texts: Path, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["prepare", str(texts), str(texts / "00.txt"), "-o", str(out), "--split-documents", "line", "--tokenizer", "words"]
    options = ["--val", str(texts / "01.txt"), "--test", "0.5", "--min-count", "1", "--keep-repeats", "--workers", "1", "--quiet"]
    assert main(command + options) == 0
    data = Dataset.open(out)
    assert data.split("validation").documents == 2 and data.split("test").documents in range(40, 78)
    assert data.tokenizer.kind == "words" and data.tokenizer.id("39") is not None
    assert "repeated document" not in data.manifest["drops"]
    assert capsys.readouterr().err == ""
    assert main([*command, *options]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, *options, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "no such file or folder: nowhere.txt"),
        (["{texts}", "--field", "body"], None),
        (["{texts}", "--val", "five"], "--validation five: neither a share such as 0.05 nor a file"),
        (["{texts}", "--tokenizer", "spaces"], "no tokenizer at spaces: give bpe, unigram, bytes, chars, words"),
        (["{texts}", "--validation", "0.7", "--test", "0.7"], "leave something to train on"),
        ([], "nothing to prepare"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str | None, texts: Path, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["prepare", *(a.format(texts=texts) for a in arguments), "-o", str(tmp_path / "out")])
    error = capsys.readouterr().err
    if message is None:  # plain text has no fields
        assert status == 0
    else:
        assert status == 2 and message in error and error.splitlines()[-1].startswith("error: ")


def test_steps_are_told_with_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--list-steps"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^sample +Keep a share", out, re.M) and re.search(r"^ +share=0.1 seed=none$", out, re.M)
    assert "top=0.2+0.18+0.16" in out and "verify=false" in out and re.search(r"^web +=( [\w:=-]+)+$", out, re.M)


def test_a_step_twice_and_patterns_of_files_to_hold_out(texts: Path, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "picture.png").write_bytes(b"")
    held = ["--test", str(texts / "0*.txt"), "--steps", "sample:share=0.7", "sample:share=0.7,seed=1", "--workers", "1"]
    assert main(["prepare", str(texts), "--dry-run", "--examples", "1", *held]) == 0
    said = capsys.readouterr().out
    assert "note: files left aside: 1 .png" in said and "sample-2: not in the sample" in said
    assert main(["prepare", str(texts), "-o", str(tmp_path / "out"), "--tokenizer", "bytes", *held]) == 0
    data = Dataset.open(tmp_path / "out")
    entries = [(entry["step"], entry["documents"]) for entry in data.manifest["funnel"]]
    (_, read), (first, one), (second, two), _ = entries
    assert (first, second) == ("sample", "sample-2") and 40 == read > one > two
    assert data.split("test").documents == 10 and (data.root / "rejected" / "sample-2.jsonl").exists()
    assert main(["prepare", str(tmp_path / "out"), "--show", "rejected", "--examples", "0"]) == 2
    assert "--examples 0: ask for at least one" in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    text = capsys.readouterr().out
    for option in (
        "--field",
        "--tokenizer",
        "--vocab",
        "--min-count",
        "--split-documents",
        "--val",
        "--test",
        "--overwrite",
        "--workers",
    ):
        assert option in text


def test_a_script_without_main_guard_and_no_heavy_imports(texts: Path, tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport genus.prepare.units as units\nunits.SMALLEST_UNIT = units.LARGEST_UNIT = 500\n"
        f"from genus.prepare import prepare\nprepare({str(texts)!r}, {str(tmp_path / 'out')!r}, tokenizer='bytes', workers=2)\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"] and Dataset.open(tmp_path / "out").split("train").documents == 36
