"""Batches of pairs: sentences of about the same length together, so that little of a batch is padding.

A batch has room for `batch` rows of `context` positions, of source or target, whichever is longer, padding included; short
sentences make more rows. So every update sees about the same number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from genus.objectives.seq2seq import PairRows
from genus.prepare.dataset import Split

SPREAD = 0.9  # the shortest pair of a bucket has at least this share of the positions of the longest
POOL = 16  # batches of a bucket among which the other side is sorted


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs in random order, anew in each pass over the data; batch number i is a pure function of the data, the seed and i.

    Pairs are put into buckets by their longer side, once. In each pass the pairs of a bucket are shuffled and cut into batches,
    of which there are always as many, and all batches are shuffled.

    Attributes:
        split: targets, with their sources. context: positions of the longest side that is kept; longer pairs are left out.
        batch: rows of `context` positions that a batch has room for. shuffle: False = every pass is like the first.
    """

    split: Split
    context: int
    batch: int
    bos: int
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.split.source is None:
            raise ValueError("this data has no sources: prepare pairs of texts with genus prepare --pairs")
        if not len(self.buckets):
            shortest = int(self.lengths.max(1).min())
            raise ValueError(f"every pair is longer than --context {self.context}: the shortest takes {shortest} positions")

    @cached_property
    def lengths(self) -> np.ndarray[Any, Any]:
        """(pairs, 2): tokens of source and target, end tokens included."""
        assert self.split.source is not None
        return np.stack([np.diff(side.ends, prepend=0) for side in (self.split.source, self.split)], axis=1)

    @property
    def left_out(self) -> int:
        """Pairs that are too long."""
        return int((self.lengths.max(1) > self.context).sum())

    @cached_property
    def buckets(self) -> list[tuple[np.ndarray[Any, Any], int]]:
        """Numbers of the pairs of each bucket, and how many batches they make; the longest first."""
        longest = self.lengths.max(1)
        kept = np.flatnonzero(longest <= self.context)
        kept = kept[np.argsort(-longest[kept], kind="stable")]
        sizes = longest[kept]
        found = []
        first, room = 0, self.batch * self.context
        while first < len(kept):
            top = int(sizes[first])
            rows = max(1, room // top)
            last = int(np.searchsorted(-sizes, -SPREAD * top, side="right"))
            count = -(-(last - first) // rows)
            last = min(len(kept), first + count * rows)  # a few shorter pairs, so that every batch is full
            found.append((kept[first:last], count))
            first = last
        return found

    @cached_property
    def steps_per_epoch(self) -> int:
        return sum(count for _, count in self.buckets)

    @property
    def targets_per_batch(self) -> float:
        """Mean number of targets."""
        kept = self.lengths[:, 1][self.lengths.max(1) <= self.context]
        return float(kept.sum()) / self.steps_per_epoch

    def __call__(self, step: int) -> PairRows:
        """The rows of batch number `step`."""
        epoch, number = divmod(step, self.steps_per_epoch)
        chosen = self._pass(epoch if self.shuffle else 0)[number]
        assert self.split.source is not None
        sources = [self.split.source.document(int(i)) for i in chosen]
        return PairRows(sources, [self.split.document(int(i)) for i in chosen], self.bos)

    @cached_property
    def _pass(self) -> Any:
        return lru_cache(maxsize=1)(self._arrange)

    def _arrange(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """The batches of a pass, as numbers of pairs."""
        random = np.random.default_rng([self.seed, epoch])
        batches: list[np.ndarray[Any, Any]] = []
        for members, count in self.buckets:
            pieces = np.array_split(random.permutation(members), count)
            for start in range(0, count, POOL):
                pool = np.concatenate(pieces[start : start + POOL])
                pool = pool[np.argsort(self.lengths[pool].min(1), kind="stable")]
                batches += np.split(pool, np.cumsum([len(piece) for piece in pieces[start : start + POOL]])[:-1])
        return [batches[i] for i in random.permutation(len(batches))]
