"""Substrings: long stretches that stand elsewhere too are cut out after their first occurrence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.prepare.batches import TEXT
from genus.prepare.repeats import came_before
from genus.prepare.steps.step import Function, Outcome, Survey, replace_text
from genus.prepare.words import Words, blocks, find_words, windows

if TYPE_CHECKING:
    import pyarrow as pa

REASON = "repeated stretch"


@dataclass(frozen=True)
class Substrings(Survey):
    """Cut out stretches of 50 words or more that were already read elsewhere (Lee et al. 2022).

    A word is a run of letters and digits, a run of punctuation, or one character of a script without spaces; white space does
    not count. The hash of every run of `length` words is compared with all others, so the result is exact but for collisions of
    64 bits, and no stretch of a text that long is left twice. A text that repeats itself keeps one round of it.

    Ready-made validation and test sets count as read before everything else, and nothing is cut out of them.

    Attributes:
        length: words from which a repeated stretch is cut.
    """

    NAME: ClassVar[str] = "substrings"

    length: int = 50

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"{self.NAME}:length={self.length}: give the words of a stretch, 2 or more; 50 is usual")

    def observe(self, batch: pa.RecordBatch) -> pa.Table | None:
        """Hashes of all runs of `length` words, for every document that has one."""
        import pyarrow as pa

        values, counts = [], []
        for texts in blocks(batch.column(TEXT)):
            runs, offsets = windows(find_words(texts, exact=True), self.length)
            values.append(runs)
            counts.append(np.diff(offsets))
        each = np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
        if not each.any():
            return None
        offsets = np.concatenate([[0], np.cumsum(each[each > 0])])
        runs = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(values)))
        some = {name: batch.column(name).filter(pa.array(each > 0)) for name in ("row", "held_out")}
        return pa.table({**some, "runs": runs})

    def decide(self, observed: Iterable[tuple[int, pa.Table]], folder: Path, seed: int) -> dict[str, Any]:
        """Find, for every document, the stretches all of whose runs were read before."""
        known = list(observed)
        cut = stretches = 0
        for (unit, table), again in zip(known, _again([table for _, table in known], folder), strict=True):
            rows, begins, ends = _stretches(table, again, self.length)
            stretches += len(rows)
            cut += int((ends - begins).sum())
            if len(rows):
                np.savez(folder / f"{unit}.npz", rows=rows, begins=begins, ends=ends)
        return {"stretches": stretches, "words cut": cut}

    def apply(self, folder: Path, unit: int) -> Function:
        """Cut what was decided. A document of which nothing is left is dropped."""
        file = folder / f"{unit}.npz"
        if not file.exists():
            return lambda batch: Outcome(batch, [], [], {})
        with np.load(file) as known:
            rows, begins, ends = known["rows"], known["begins"], known["ends"]

        def function(batch: pa.RecordBatch) -> Outcome:
            of = batch.column("row").to_numpy()
            texts: list[str | None] = [None] * len(of)
            for i in np.flatnonzero(np.isin(of, rows)):
                one, two = np.searchsorted(rows, [of[i], of[i] + 1])
                text = batch.column(TEXT).slice(i, 1)
                words = find_words(text, exact=True)
                texts[i] = _cut(text[0].as_py().encode(), words, begins[one:two], ends[one:two])
            return replace_text(batch, texts, REASON)

        return function


def _again(tables: Sequence[pa.Table], folder: Path) -> Iterator[np.ndarray]:
    """For every table which runs of what is trained on were read before; what is held out is read first."""
    held = [_held_out(table) for table in tables]
    runs = [_runs(table) for table in tables]
    first = [each[mask] for each, mask in zip(runs, held) if mask.any()]
    rest = [each[~mask] if mask.any() else each for each, mask in zip(runs, held)]
    for mask, again in zip(held, islice(came_before([*first, *rest], folder), len(first), None), strict=True):
        every = np.zeros(len(mask), dtype=bool)
        every[~mask] = again
        yield every


def _held_out(table: pa.Table) -> np.ndarray:
    """Which runs belong to documents that are held out."""
    import pyarrow.compute as pc

    return np.repeat(table.column("held_out").to_numpy(), pc.list_value_length(table.column("runs")).to_numpy())


def _runs(table: pa.Table) -> np.ndarray:
    return np.concatenate([chunk.flatten().to_numpy() for chunk in table.column("runs").chunks])


def _stretches(table: pa.Table, again: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, first words, last words + 1) of the stretches that runs marked `again` cover; those that touch are one."""
    import pyarrow.compute as pc

    counts = pc.list_value_length(table.column("runs")).to_numpy()
    firsts = np.concatenate([[0], np.cumsum(counts)])
    at = np.flatnonzero(again)
    document = np.searchsorted(firsts, at, side="right") - 1
    new = np.ones(len(at), dtype=bool)
    new[1:] = (document[1:] != document[:-1]) | (np.diff(at) > length)
    last = np.append(new[1:], True)[: len(at)]
    rows = table.column("row").to_numpy()[document[new]]
    return rows, (at - firsts[document])[new], (at - firsts[document])[last] + length


def _cut(text: bytes, words: Words, first: np.ndarray, stop: np.ndarray) -> str:
    """The text without its words first[i] .. stop[i] - 1, nor the space after each such stretch."""
    left, place = [], 0
    for one, two in zip(first.tolist(), stop.tolist()):
        left.append(text[place : words.begins[one]])
        place = int(words.begins[two]) if two < len(words.begins) else len(text)
    return b"".join([*left, text[place:]]).decode()
