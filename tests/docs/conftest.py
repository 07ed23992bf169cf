"""Runs the documents as a reader would: every command and every piece of Python, with smaller budgets.

A fenced block in `sh`, `bash` or `python` is run, unless `<!-- not run: reason -->` stands before it. A `console` block is a
command after `$` and what it must print; `...` on a line of its own stands for any lines. Blocks of other kinds are left alone.
The quick start is run first; every other page starts in a copy of the folder it leaves.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n+)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```", re.M | re.S)
# Words in capitals stand for a reader's own paths.
STAND_INS = {"RUN": "runs/llama", "MODEL": "runs/llama", "OTHER": "runs/ngram", "FOLDER": "llama-hf", "DATA": "data"}
CHAPTERS = 40  # of the corpus, of which the tests need only a little


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The blocks to run, in order."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if match["language"] in ("sh", "bash", "console", "python") and not match["reason"]:
            yield Block(match["language"], match["code"], text.count("\n", 0, match.start("code")))


@dataclass
class Reader:
    """Follows one page in the current folder. `paths`: what the words in capitals stand for by now."""

    page: Path
    show: Callable[[], str]
    paths: dict[str, str] = field(default_factory=lambda: dict(STAND_INS))
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})

    def read(self) -> None:
        for block in blocks(self.page):
            where = f"{self.page.name}:{block.line}"
            if block.language == "python":
                self.python(block.code, where)
            elif block.language == "console":
                command, _, expected = block.code.removeprefix("$ ").partition("\n")
                printed = self.command(command, where)
                assert like(printed, expected), f"{where}: {command}\nprinted:\n{printed}\nthe page has:\n{expected}"
            else:
                for line in block.code.replace("\\\n", " ").splitlines():
                    if shlex.split(line, comments=True):
                        self.command(line, where)

    def python(self, code: str, where: str) -> None:
        for word, path in self.paths.items():
            if word != "OTHER":
                code = code.replace(f'"{word}"', f'"{path}"')
        exec(compile(code, where, "exec"), self.names)
        self.show()

    def command(self, line: str, where: str) -> str:
        """Run one line; returns what it printed on standard output."""
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
            return ""
        if words[0] != "genus" or {"|", ">", "&&"} & set(words):
            environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, env=environment)
            assert done.returncode == 0, f"{where}: {line}\n{done.stderr}"
            _shorten(Path("texts"))
            return done.stdout
        from genus.cli import main

        status = main(self.words(words[1:]))
        printed = self.show()
        assert status == 0, f"{where}: {line} ended with {status}\n{printed}"
        return printed

    def words(self, words: list[str]) -> list[str]:
        """The arguments with a reader's paths in place and every budget cut."""
        words = list(words)
        paths = self.paths | ({"RUN": "runs/ngram"} if "arpa" in words else {})
        for i, word in enumerate(words):
            if word in STAND_INS and words[i - 1] in ("-o", "--out", "--output"):
                self.paths[word] = paths[word] = next(p for n in range(99) if not Path(p := f"{word.lower()}-{n}").exists())
            words[i] = paths.get(word, word)
        if words[0] == "train" and "--resume" not in words and "ngram" not in words:
            for budget in ("--time", "--tokens", "--epochs"):
                if budget in words:
                    at = words.index(budget)
                    del words[at : at + 2]
            words += ["--tokens", "1k", "--eval-tokens", "512", "--batch", "2"] if "--batch" not in words else ["--tokens", "1k"]
            if "--size" in words:
                words[words.index("--size") + 1] = "200k"
        if words[0] == "generate" and "--max-tokens" not in words:
            words += ["--max-tokens", "8"]
        return words


def like(printed: str, expected: str) -> bool:
    """Whether `printed` is `expected`, where a line of `...` stands for any lines; trailing blanks do not count."""
    lines = [line.rstrip() for line in expected.strip("\n").splitlines()]
    pattern = "\n".join(r"(?:.*\n)*?.*" if line == "..." else re.escape(line) for line in lines)
    text = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, text) is not None


def _shorten(folder: Path) -> None:
    if folder.is_dir():
        for file in sorted(folder.iterdir())[CHAPTERS:]:
            file.unlink()


@pytest.fixture(scope="session")
def after_quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the quick start leaves behind."""
    folder = tmp_path_factory.mktemp("reader")
    before = Path.cwd()
    os.chdir(folder)
    try:
        Reader(ROOT / "docs" / "quickstart.md", lambda: "").read()
    finally:
        os.chdir(before)
    (folder / "prompts.txt").write_text("In the beginning\nAnd God said\n", encoding="utf-8")
    return folder


@pytest.fixture
def reader(
    after_quickstart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], Reader]:
    """`reader(page)`, in a folder of its own that begins where the quick start ends."""
    shutil.copytree(after_quickstart, tmp_path / "reader")
    monkeypatch.chdir(tmp_path / "reader")
    return lambda page: Reader(page, lambda: capsys.readouterr().out)
