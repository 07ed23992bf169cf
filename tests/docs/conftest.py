"""Runs the documents as a reader would: every command and every piece of Python, with smaller budgets.

A fenced block in `sh`, `bash` or `python` is run, unless `<!-- not run: reason -->` stands before it. A `console` block is a
command after `$` and what it must print; `...` on a line of its own stands for any lines. Blocks of other kinds are left alone.
The quick start is run first; the pages on the verbs start in a copy of the folder it leaves, the others with the corpus alone.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n+)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```", re.M | re.S)
# What the paths in capitals are at the top of a page.
PATHS = {"RUN": "runs/llama", "MODEL": "runs/llama", "OTHER": "runs/ngram", "FOLDER": "llama-hf", "DATA": "data"}
SERVER = "127.0.0.1:8000"  # where the pages' server is; in the tests it takes a free port
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
    """Follows one page in the current folder. `show` gives what was printed since it was last asked."""

    page: Path
    show: Callable[[], str]
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})
    server: subprocess.Popen[str] | None = None
    address: str = SERVER

    def read(self) -> None:
        try:
            for block in blocks(self.page):
                self.block(block.code.replace(SERVER, self.address), block)
        finally:
            self.stop()

    def block(self, code: str, block: Block) -> None:
        where = f"{self.page.name}:{block.line}"
        if block.language == "python":
            self.python(code, where)
        elif block.language == "console":
            command, _, expected = code.removeprefix("$ ").partition("\n")
            printed = self.command(command, where)
            assert like(printed, expected), f"{where}: {command}\nprinted:\n{printed}\nthe page has:\n{expected}"
        else:
            for line in code.replace("\\\n", " ").splitlines():
                if shlex.split(line, comments=True):
                    self.command(line, where)

    def python(self, code: str, where: str) -> None:
        exec(compile(code, where, "exec"), self.names)
        self.show()

    def command(self, line: str, where: str) -> str:
        """Run one line; returns what it printed on standard output."""
        words = shlex.split(line, comments=True)
        if words[:2] == ["genus", "serve"] and "--help" not in words:
            self.serve(words[2:])
            return ""
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

        status = main(smaller(words[1:]))
        printed = self.show()
        assert status == 0, f"{where}: {line} ended with {status}\n{printed}"
        return printed

    def serve(self, words: list[str]) -> None:
        """Start a server in the place of the one before, if there was one; it runs until the page ends."""
        self.stop()
        command = [sys.executable, "-m", "genus", "serve", *words, "--port", "0"]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout is not None
        for line in self.server.stdout:
            if found := re.search(r"http://(127\.0\.0\.1:\d+)", line):
                self.address = found[1]
            if "curl" in line:
                return
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=40)
            self.server = None


def smaller(words: list[str]) -> list[str]:
    """The arguments with every budget cut. A path in capitals after -o is made anew, whatever it was."""
    words = ["runs/ngram" if "arpa" in words and word == "RUN" else word for word in words]
    for option, word in pairwise(words):
        if option in ("-o", "--out", "--output") and word.isupper():
            _remove(Path(word))
    if words[0] == "train" and "ngram" not in words and "--resume" not in words:
        for i in reversed([i for i, word in enumerate(words) if word in ("--time", "--tokens", "--epochs", "--size", "--batch")]):
            del words[i : i + 2]
        words += ["--tokens", "1k", "--eval-tokens", "512", "--batch", "2"]
    if words[0] == "tune":
        for option, small in (("--epochs", "1"), ("--tokens", "2k")):
            if option in words:
                words[words.index(option) + 1] = small
    if words[0] == "evaluate" and "--probe-time" in words:
        words[words.index("--probe-time") + 1] = "1s"
    if words[0] == "generate" and "--max-tokens" not in words:
        words += ["--max-tokens", "8"]
    if words[0] == "prepare":
        words += ["--workers", "1"]
    return words


def like(printed: str, expected: str) -> bool:
    """Whether `printed` is `expected`, where a line of `...` stands for any lines; trailing blanks do not count."""
    lines = [line.rstrip() for line in expected.strip("\n").splitlines()]
    pattern = "\n".join(r"(?:.*\n)*?.*" if line == "..." else re.escape(line) for line in lines)
    text = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, text) is not None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
    for name, path in PATHS.items():
        (folder / name).symlink_to(path)
    _some_files(folder)
    return folder


def _some_files(folder: Path) -> None:
    """Files that the pages speak of."""
    chapters = [file.read_text(encoding="utf-8") for file in sorted((folder / "texts").iterdir())[:12]]
    (folder / "prompts.txt").write_text("In the beginning\nAnd God said\n", encoding="utf-8")
    (folder / "book.txt").write_text(chapters[0], encoding="utf-8")
    for name, part in (("train", chapters[:8]), ("valid", chapters[8:10]), ("test", chapters[10:])):
        (folder / f"{name}.txt").write_text("\n".join(part), encoding="utf-8")
    with gzip.open(folder / "poems.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n\n".join("\n\n".join(chapters).split("\n")))
    with open(folder / "reviews.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("stars", "review"), *((5, verse) for c in chapters for verse in c.split("\n"))])
    shutil.copytree(folder / "texts", folder / "more")


@pytest.fixture
def reader(
    after_quickstart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path, bool], Reader]:
    """`reader(page, fresh)`, in a folder of its own that begins where the quick start ends, or with nothing but the corpus."""

    def follow(page: Path, fresh: bool) -> Reader:
        part = "texts" if fresh else "."
        shutil.copytree(after_quickstart / part, tmp_path / "reader" / part, symlinks=True)
        monkeypatch.chdir(tmp_path / "reader")
        return Reader(page, lambda: capsys.readouterr().out)

    return follow
