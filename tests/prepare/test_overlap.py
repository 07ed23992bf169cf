"""Documents held out that stand in the training text too are counted."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from genus.cli import main
from genus.prepare import Dataset, overlap, prepare
from genus.prepare.overlap import run_length


def words(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"w{draw.randrange(10**4)}" for _ in range(count)]


def corpus(path: Path, alike: int) -> Path:
    """300 lines, and of the first `alike` of them a copy with one word changed."""
    lines = [words(60, seed) for seed in range(300)]
    copies = [[*line[:30], "changed", *line[31:]] for line in lines[:alike]]
    path.write_text("\n".join(" ".join(line) for line in [*lines, *copies]))
    return path


def mostly_there(data: Dataset, name: str, size: int) -> int:
    """The same, slowly."""

    def runs(document: np.ndarray) -> list[bytes]:
        return [document[i : i + size].tobytes() for i in range(len(document) - size)]

    train, split = data.split("train"), data.split(name)
    known = set(runs(train.read(0, train.tokens)))
    found = [runs(split.document(i)) for i in range(split.documents)]
    return sum(2 * sum(run in known for run in each) >= len(each) > 0 for each in found)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_as_many_as_a_slow_count_finds(tmp_path: Path, tokenizer: str) -> None:
    data = prepare(corpus(tmp_path / "a.txt", 150), tmp_path / "out", split_documents="line", tokenizer=tokenizer, workers=1)
    train = data.split("train")
    size = run_length(train.bytes / train.tokens)
    for name in ("validation", "test"):
        told = data.manifest["splits"][name]["overlap"]
        assert told == {"documents": data.split(name).documents, "mostly": mostly_there(data, name, size), "run": size}
        assert told["mostly"] > 5
    assert "overlap" not in data.manifest["splits"]["train"]


def test_a_part_of_a_large_split_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MOST_TOKENS", 2000)
    monkeypatch.setattr(overlap, "BLOCK", 1000)
    file = corpus(tmp_path / "a.txt", 300)
    data = prepare(file, tmp_path / "out", split_documents="line", tokenizer="words", workers=1, validation=0.1, test=0)
    told = data.manifest["splits"]["validation"]["overlap"]
    assert told["documents"] in range(25, 35) and told["mostly"] in range(15, told["documents"] + 1)


def test_it_is_told_and_what_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = corpus(tmp_path / "a.txt", 150)
    command = ["prepare", str(file), "--split-documents", "line", "--tokenizer", "bytes", "--workers", "1", "--quiet"]
    assert main([*command, "-o", str(tmp_path / "raw")]) == 0
    assert "stand mostly in the training text too: --steps near-duplicates" in capsys.readouterr().out
    assert main([*command, "-o", str(tmp_path / "clean"), "--steps", "near-duplicates:threshold=0.6"]) == 0
    assert "training text too" not in capsys.readouterr().out
    splits = Dataset.open(tmp_path / "clean").manifest["splits"]
    assert splits["validation"]["overlap"]["mostly"] == splits["test"]["overlap"]["mostly"] == 0


def test_splits_of_short_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"line {i}" for i in range(300)))
    data = prepare(tmp_path / "a.txt", tmp_path / "out", split_documents="line", tokenizer="bytes", workers=1)
    assert data.manifest["splits"]["test"]["overlap"] == {"documents": 0, "mostly": 0, "run": 64}
