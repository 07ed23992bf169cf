"""A small prepared corpus and a run on it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from genus.prepare import prepare
from genus.prepare.dataset import Dataset

WORDS = ("the", "of", "river", "stone", "under", "bright", "water", "falls", "over", "old", "mill", "where", "children", "sing")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """200 short documents of a few hundred characters, as bytes."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(5)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(8, 60))) + ".\n" for _ in range(200)]
    (folder / "text.txt").write_text("".join(lines), encoding="utf-8")
    prepare([folder / "text.txt"], folder / "data", tokenizer="bytes", split_documents="line")
    return Dataset.open(folder / "data")


class Tokens:
    """A split held in memory."""

    def __init__(self, tokens: list[int], ends: list[int]) -> None:
        self._tokens = np.array(tokens, dtype=np.uint16)
        self.ends = np.array(ends, dtype=np.int64)

    @property
    def tokens(self) -> int:
        return len(self._tokens)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._tokens[start:stop]


@pytest.fixture
def documents() -> Tokens:
    """100 tokens, 0 to 99, in documents that end at 7, 8, 40 and 100."""
    return Tokens(list(range(100)), [7, 8, 40, 100])


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
