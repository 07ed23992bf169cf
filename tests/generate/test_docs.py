"""The commands and the Python of the page on generation run as they are written."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from genus import cli
from genus.export import huggingface
from genus.run import Loaded

PAGE = Path(__file__).parents[2] / "docs" / "generate.md"


@pytest.fixture
def model(small: Callable[..., Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    loaded = small("llama", depth=1)
    huggingface.save(tmp_path / "MODEL", loaded.model, loaded.spec, loaded.tokenizer, context=64)
    (tmp_path / "prompts.txt").write_text("One\nTwo\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "MODEL"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def test_commands(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 5
    for words in commands:
        assert words[0] == "genus" and cli.main([*words[1:], "--max-tokens", "8"]) == 0, words
        assert capsys.readouterr().out or "-o" in words
    assert len((model.parent / "texts.jsonl").read_text().splitlines()) == 2


def test_python(model: Path) -> None:
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), {})
