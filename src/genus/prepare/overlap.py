"""How many of the documents held out stand mostly in the training text too.

Exact repeats never do, but documents that differ in a few words may fall on both sides of a split, and then a figure of
validation tells what was learnt by heart. Runs of tokens are compared, as long as about a dozen words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genus.prepare.dataset import HELD_OUT, Split
from genus.prepare.evaluation_sets import Runs
from genus.prepare.words import hashes_of_runs

RUN_BYTES = 48
"""Text that a run covers at least, on average: 9 English words, 16 Chinese characters."""
MOST_TOKENS = 2**20
"""Tokens of a split that are looked at: documents that lie evenly over it."""
BLOCK = 2**20
MOSTLY = 0.5


class Held(NamedTuple):
    """Runs of the documents of a split that are looked at. values: (n,) uint64 hashes; document: (n,) int64, which has each."""

    values: np.ndarray
    document: np.ndarray


def overlap(folder: Path, splits: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Of every split that is held out, how many documents have half of their runs of tokens or more in common with training.

    Args:
        splits: as `pack` returned them, with its shards in `folder`.

    Returns:
        {split: {"documents": looked at, "mostly": of these in the training text, "run": tokens of a run}}. Documents shorter
        than a run are not looked at.
    """
    train = splits["train"]
    size = run_length(train["bytes"] / train["tokens"])
    held = {name: _held(Split(folder / name, splits[name]), size) for name in HELD_OUT if splits[name]["documents"]}
    if not held:
        return {}
    values = np.concatenate([each.values for each in held.values()])
    runs = Runs(values, np.arange(len(values)))
    met = np.zeros(len(values), dtype=bool)  # of equal runs the first stands for all
    for block in _blocks(sorted((folder / "train").glob("tokens-*.npy")), size):
        met[runs.find(hashes_of_runs(block.astype(np.uint64), size))[1]] = True
    return {name: _counted(each, runs, met, size) for name, each in held.items()}


def run_length(bytes_per_token: float) -> int:
    """Tokens of a run: a power of two, so that hashes of runs are soon made."""
    return 2 ** max(1, math.ceil(math.log2(RUN_BYTES / bytes_per_token)))


def _held(split: Split, size: int) -> Held:
    step = math.ceil(split.tokens / MOST_TOKENS)
    if step == 1:
        stream, ends = split.read(0, split.tokens), split.ends
    else:
        documents = [split.document(i) for i in range(0, split.documents, step)]
        stream, ends = np.concatenate(documents), np.cumsum([len(each) for each in documents])
    values = hashes_of_runs(stream.astype(np.uint64), size)
    at = np.arange(len(values))
    document = np.searchsorted(ends, at, side="right")
    inside = at + size < ends[document]  # the end token is of no run
    return Held(values[inside], document[inside])


def _blocks(files: list[Path], size: int) -> Iterator[np.ndarray]:
    """The tokens of shards in portions, each with the beginning of the next."""
    for file in files:
        stream = np.load(file, mmap_mode="r", allow_pickle=False)
        for start in range(0, len(stream), BLOCK):
            yield stream[start : start + BLOCK + size - 1]


def _counted(held: Held, runs: Runs, met: np.ndarray, size: int) -> dict[str, int]:
    there = met[runs.sets[np.searchsorted(runs.values, held.values)]]
    total = np.bincount(held.document)
    common = np.bincount(held.document, weights=there, minlength=len(total))
    mostly = (total > 0) & (common >= MOSTLY * total)
    return {"documents": int(np.count_nonzero(total)), "mostly": int(mostly.sum()), "run": size}
