"""Packing: several short examples in one row, so that no position of a batch is padding that costs and teaches nothing."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from genus.train.loader import permute
from genus.tune.examples import lengths_of
from genus.tune.task import Example


@dataclass(frozen=True)
class Packed:
    """A loader of rows that hold several examples, at most `length` positions together.

    Batch number i is a pure function of the examples, the seed and i. Which examples share a row is decided once: the longest
    first, each into the fullest row that has room for it (best fit, decreasing). The order of the rows is new in each pass.
    """

    examples: Sequence[Example]
    batch: int
    length: int
    seed: int = 0

    @cached_property
    def rows(self) -> list[list[int]]:
        """Numbers of the examples in each row."""
        sizes = self._sizes
        rows: list[list[int]] = []
        free: list[tuple[int, int]] = []  # (positions left, row), smallest first
        for number in sorted(range(len(sizes)), key=lambda i: (-sizes[i], permute(i, len(sizes), self.seed))):
            found = bisect_left(free, (sizes[number], 0))
            if found < len(free):
                left, row = free.pop(found)
                rows[row].append(number)
            else:
                left, row = self.length, len(rows)
                rows.append([number])
            if left > sizes[number]:
                insort(free, (left - sizes[number], row))
        return rows

    @property
    def filled(self) -> float:
        """Share of the positions that are not padding."""
        return sum(self._sizes) / (len(self.rows) * self.length)

    @property
    def steps_per_epoch(self) -> float:
        return len(self.rows) / self.batch

    def __call__(self, step: int) -> list[list[Example]]:
        numbers = [divmod(step * self.batch + r, len(self.rows)) for r in range(self.batch)]
        chosen = [self.rows[permute(index, len(self.rows), self.seed * 1_000_003 + passes)] for passes, index in numbers]
        return [[self.examples[i] for i in row] for row in chosen]

    @property
    def _sizes(self) -> list[int]:
        """Positions of each example: one less than its tokens, since the last is only a target."""
        return [max(1, int(n) - 1) for n in lengths_of(self.examples)]
