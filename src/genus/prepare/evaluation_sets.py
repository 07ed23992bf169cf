"""The texts of evaluation sets, and an index of their runs of words that tells where another text repeats one.

After Brown et al. (2020), appendix C: words in small letters without punctuation, and runs of 13 of them; a text of fewer words
(but not fewer than 8) counts as a whole. A character of a script written without spaces is a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genus.prepare.batches import batches_of
from genus.prepare.dataset import HELD_OUT, Dataset
from genus.prepare.items import Document
from genus.prepare.records import Entry, stream
from genus.prepare.sources import listed
from genus.prepare.units import Part, read
from genus.prepare.words import blocks, find_words, windows
from genus.prepare.workspace import is_dataset

if TYPE_CHECKING:
    import pyarrow as pa

BITS_PER_RUN, MOST_BITS = 16, 28


def texts_of(path: str | Path, fields: Sequence[str] = ()) -> Iterator[str]:
    """Every text of an evaluation set.

    Args:
        path: a prepared folder (its validation and test splits), or a file, folder or glob that `genus tune` could read; plain
            text is one text a file. A folder that names its splits gives those that are not for training.
        fields: of records; all that hold text when empty.

    Raises:
        ValueError: nothing there, or nothing that can be read.
    """
    if is_dataset(Path(path)):
        data = Dataset.open(path)
        for name in HELD_OUT:
            split = data.split(name)
            for i in range(split.documents):
                yield data.tokenizer.decode(split.document(i)[:-1].tolist())
        return
    sources = listed(path)
    if any(source.split in HELD_OUT for source in sources):
        sources = [source for source in sources if source.split in HELD_OUT]
    for source in sources:
        if source.format == "text":
            for item in read(source, Part(0), "file"):
                if isinstance(item, Document):
                    yield item.text
        else:
            for entry in stream(source.path):
                if isinstance(entry, Entry):
                    yield from _strings([value for name, value in entry.record.items() if not fields or name in fields])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)


class Repeats(NamedTuple):
    """Where texts repeat a run of words: `texts`, `begins` and `ends` (in words of that text) and the number of the set."""

    texts: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    sets: np.ndarray

    def where(self, mask: np.ndarray) -> Repeats:
        """Those that a mask marks."""
        return Repeats(*(array[mask] for array in self))


class Runs:
    """Hashes of runs of one length, each with the number of the set it is of."""

    def __init__(self, values: np.ndarray, sets: np.ndarray) -> None:
        self.values, first = np.unique(values, return_index=True)
        self.sets = sets[first]
        bits = min(MOST_BITS, max(8, int(np.ceil(np.log2(BITS_PER_RUN * max(1, len(self.values)))))))
        self._shift = np.uint64(64 - bits)
        self._there = np.zeros(2**bits, dtype=bool)  # by the first bits of a hash: what is not here need not be searched for
        self._there[self.values >> self._shift] = True

    def find(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the values are here: their positions, and the set that each is of."""
        perhaps = np.flatnonzero(self._there[values >> self._shift])
        if not len(perhaps):
            return perhaps, self.sets[:0]
        at = np.minimum(np.searchsorted(self.values, values[perhaps]), len(self.values) - 1)
        same = self.values[at] == values[perhaps]
        return perhaps[same], self.sets[at[same]]


@dataclass
class Index:
    """Runs of words of evaluation sets.

    Attributes:
        labels: names of the sets. texts, short: how many texts there are, and how many are too short to be found.
        runs: all runs of `words` words. wholes: by length, texts of fewer words. heads: how those begin.
        shortest: length of heads.
    """

    labels: tuple[str, ...]
    words: int
    shortest: int
    runs: Runs
    wholes: dict[int, Runs]
    heads: Runs
    texts: int = 0
    short: int = 0

    def __len__(self) -> int:
        """Different runs that are looked for."""
        return sum(len(each.values) for each in (self.runs, *self.wholes.values()))

    @classmethod
    def build(cls, sets: Iterable[tuple[str, Iterable[str]]], words: int, shortest: int) -> Index:
        """Index the texts of sets, given as (label, texts).

        Args:
            words: length of a run. shortest: texts of fewer words than a run are taken as a whole, from so many words on.
        """
        runs, heads, wholes = _Collected(), _Collected(), {size: _Collected() for size in range(words - 1, shortest - 1, -1)}
        labels = []
        texts = short = 0
        for number, (label, given) in enumerate(sets):
            labels.append(label)
            for batch in batches_of(Document(text) for text in given):
                texts += batch.num_rows
                for block in blocks(batch.column("text")):
                    known = find_words(block)
                    counts = np.diff(known.firsts)
                    short += int((counts < shortest).sum())
                    runs.add(windows(known, words)[0], number)
                    beginnings, offsets = windows(known, shortest)
                    heads.add(beginnings[offsets[:-1][(counts >= shortest) & (counts < words)]], number)
                    for size in set(counts.tolist()) & set(wholes):
                        values, offsets = windows(known, size)
                        wholes[size].add(values[offsets[:-1][counts == size]], number)
        kept = {size: each.runs() for size, each in wholes.items() if each.values}
        return cls(tuple(labels), words, shortest, runs.runs(), kept, heads.runs(), texts, short)

    def repeats(self, texts: pa.Array) -> Repeats:
        """All runs of the sets that texts of a column repeat."""
        parts = []
        first = 0
        for block in blocks(texts):
            known = find_words(block)
            sizes = [(self.words, self.runs)]
            if self.wholes and len(self.heads.find(windows(known, self.shortest)[0])[0]):
                sizes += self.wholes.items()
            for size, runs in sizes:
                values, offsets = windows(known, size)
                at, sets = runs.find(values)
                if len(at):
                    text = np.searchsorted(offsets, at, side="right") - 1
                    begins = at - offsets[text]
                    parts.append(Repeats(first + text, begins, begins + size, sets))
            first += len(block)
        if not parts:
            none = np.zeros(0, dtype=np.int64)
            return Repeats(none, none, none, none)
        return Repeats(*(np.concatenate(arrays) for arrays in zip(*parts)))


class _Collected:
    """Hashes as they are met, with the numbers of their sets."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []
        self.sets: list[np.ndarray] = []

    def add(self, values: np.ndarray, number: int) -> None:
        if len(values):
            self.values.append(np.unique(values))
            self.sets.append(np.full(len(self.values[-1]), number, dtype=np.uint16))

    def runs(self) -> Runs:
        if not self.values:
            return Runs(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint16))
        return Runs(np.concatenate(self.values), np.concatenate(self.sets))
