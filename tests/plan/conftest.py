"""A small prepared corpus for the trials of a plan."""

from __future__ import annotations

import random

import pytest

from genus.prepare import prepare
from genus.prepare.dataset import Dataset

WORDS = ("the", "of", "river", "stone", "under", "bright", "water", "falls", "over", "old", "mill", "where", "children", "sing")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """300 short documents of a few hundred characters, as bytes."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(5)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(8, 60))) + ".\n" for _ in range(300)]
    (folder / "text.txt").write_text("".join(lines), encoding="utf-8")
    prepare([folder / "text.txt"], folder / "data", tokenizer="bytes", split_documents="line")
    return Dataset.open(folder / "data")
