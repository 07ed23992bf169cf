"""Examples of many rows, kept as flat arrays: a million rows of thirty tokens take 150 MB instead of two gigabytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from genus.prepare.records import Record
from genus.tune.task import Example, Task

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

AT_ONCE = 1024  # rows that are in memory as lists


class Examples(Sequence[Example]):
    """The examples of some rows, in order. `Examples.encode` makes them; `of(numbers)` is a view of some of the rows.

    Attributes:
        rows: the records, by number. cut: rows that were longer than the limit.
    """

    def __init__(self, store: _Store, rows: Sequence[Record], numbers: Sequence[int]) -> None:
        self.store, self._all, self.numbers = store, rows, numbers
        wanted = np.asarray(numbers, np.int64)
        first, last = np.searchsorted(store.row, wanted), np.searchsorted(store.row, wanted + 1)
        counts = last - first
        # numbers of the examples: each row's first, and those that follow it
        self.at = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
        self.place = np.repeat(np.arange(len(numbers)), counts)  # number of each example's row within this view

    @classmethod
    def encode(cls, task: Task, rows: Sequence[Record], tokenizer: Tokenizer, limit: int, types: int = 2) -> Examples:
        """Examples of all rows, at most `limit` tokens each. `types`: segment types that the model tells apart."""
        store = _Store()
        for start in range(0, len(rows), AT_ONCE):
            for example in task.examples(list(islice(_from(rows, start), AT_ONCE)), tokenizer, limit):
                store.append(example, start, types)
        store.close()
        return cls(store, rows, range(len(rows)))

    def of(self, numbers: Sequence[int]) -> Examples:
        """The examples of some of the rows, whose `row` then counts within `numbers`."""
        return Examples(self.store, self._all, [self.numbers[i] for i in numbers])

    @property
    def rows(self) -> list[Record]:
        return [self._all[i] for i in self.numbers]

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of each example."""
        return self.store.lengths[self.at]

    @property
    def cut(self) -> int:
        return len(np.unique(self.place[self.store.cut[self.at]]))

    @property
    def without(self) -> list[int]:
        """Places of the rows, among those of this view, that gave no example."""
        return np.setdiff1d(np.arange(len(self.numbers)), self.place).tolist()  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.at)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.store.get(int(self.at[index]))._replace(row=int(self.place[index]))


class _Store:
    """All examples: tokens in one array, and where each example's begin."""

    def __init__(self) -> None:
        self._ids, self._types, self._sources = array("i"), array("b"), array("i")
        self._ends, self._source_ends, self._row, self._cut = array("q", [0]), array("q", [0]), array("q"), array("b")
        self.typed = array("b")  # whether the example has types, and whether it has a source
        self.sourced = array("b")
        self.labels: list[Any] = []

    def append(self, example: Example, start: int, types: int) -> None:
        kept = example.types if types > 1 and any(example.types) else []
        self._ids.extend(example.ids)
        self._types.extend(kept or bytes(len(example.ids)))
        self._sources.extend(example.source or [])
        self._ends.append(len(self._ids))
        self._source_ends.append(len(self._sources))
        self._row.append(start + example.row)
        self._cut.append(example.cut)
        self.typed.append(bool(kept))
        self.sourced.append(example.source is not None)
        self.labels.append(array("i", example.label) if isinstance(example.label, list) else example.label)

    def close(self) -> None:
        self.ends = np.asarray(self._ends)
        self.lengths = np.diff(self.ends)
        self.row = np.asarray(self._row)
        self.cut = np.asarray(self._cut, bool)

    def get(self, i: int) -> Example:
        a, b = self._ends[i], self._ends[i + 1]
        label = self.labels[i]
        return Example(
            self._ids[a:b].tolist(),
            self._types[a:b].tolist() if self.typed[i] else [],
            label.tolist() if isinstance(label, array) else label,
            self._sources[self._source_ends[i] : self._source_ends[i + 1]].tolist() if self.sourced[i] else None,
            cut=bool(self._cut[i]),
        )


def _from(rows: Sequence[Record], start: int) -> Iterator[Record]:
    return (rows[i] for i in range(start, len(rows)))


@dataclass(frozen=True)
class Batches:
    """A loader of examples: batch number i is a pure function of the seed and i.

    Rows come in a new random order in each pass; among neighbours in it, those of like length share a batch.
    """

    examples: Sequence[Example]
    batch: int
    seed: int = 0

    @property
    def steps_per_epoch(self) -> float:
        return len(self.examples) / self.batch

    @property
    def together(self) -> int:
        """Batches among which rows are sorted by length: few where there are few, so that the order stays random."""
        return max(1, min(16, int(self.steps_per_epoch) // 8))

    def __call__(self, step: int) -> list[Example]:
        from genus.train.loader import permute

        group, place = divmod(step, self.together)
        rows = len(self.examples)
        numbers = []
        for number in range(group * self.together * self.batch, (group + 1) * self.together * self.batch):
            passes, index = divmod(number, rows)
            numbers.append(permute(index, rows, self.seed * 1_000_003 + passes))
        if self.together > 1:
            lengths = lengths_of(self.examples)
            numbers.sort(key=lambda i: (int(lengths[i]), i))
            place = permute(place, self.together, self.seed * 1_000_003 + group)
        return [self.examples[i] for i in numbers[place * self.batch : (place + 1) * self.batch]]


def lengths_of(examples: Sequence[Example]) -> Sequence[int]:
    """Tokens that a model reads of each example."""
    if isinstance(examples, Examples):
        return examples.lengths  # type: ignore[return-value]
    return [len(e.ids) + len(e.source or ()) for e in examples]


def by_length(examples: Sequence[Example], tokens: int) -> Iterator[list[int]]:
    """Numbers of examples in batches of at most about `tokens` tokens, padding counted; the longest first."""
    lengths = lengths_of(examples)
    order = sorted(range(len(examples)), key=lambda i: (-int(lengths[i]), i))
    start = 0
    while start < len(order):
        rows = max(1, tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows
