"""Index-addressed batches: batch number i is a pure function of the data, the seed and i, so that a resume needs no seek."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from genus.objectives.batch import Rows
from genus.parts.ctx import PADDING


class TokenStream(Protocol):
    """What a loader needs of a prepared split: its length in tokens, slices of it, and where its documents end."""

    @property
    def tokens(self) -> int: ...
    @property
    def ends(self) -> np.ndarray[Any, Any]: ...
    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]: ...


class Loader(Protocol):
    """Batches by number: what the trainer asks for, whatever a row is."""

    @property
    def batch(self) -> int: ...
    @property
    def steps_per_epoch(self) -> float: ...
    def __call__(self, step: int) -> Any: ...


def permute(index: int, size: int, key: int) -> int:
    """Place of `index` in a pseudo-random permutation of range(size), without storing it.

    A four-round Feistel network over the smallest even number of bits that holds `size`, walked until it lands inside.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            seed = f"{key}:{turn}:{right}".encode()
            left, right = right, left ^ (int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "little") & mask)
        index = (left << half) | right
        if index < size:
            return index


class First:
    """The first `tokens` of a split, or all of it."""

    def __init__(self, split: TokenStream, tokens: int) -> None:
        self.split, self.tokens = split, min(tokens, split.tokens)
        ends = split.ends[: np.searchsorted(split.ends, self.tokens) + 1]
        self.ends: np.ndarray[Any, Any] = np.minimum(ends, self.tokens)

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        return self.split.read(start, stop)


@dataclass(frozen=True)
class Windows:
    """Rows are windows of `context` tokens in random order, a new order and a new offset in each pass over the data.

    Attributes:
        words: says of the tokens of a row whether a word begins with each; None where the objective does not ask.
    """

    split: TokenStream
    context: int
    batch: int
    bos: int
    seed: int = 0
    shuffle: bool = True
    words: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] | None = None

    @property
    def rows(self) -> int:
        """Windows in one pass."""
        return max(1, (self.split.tokens - self._slack()) // self.context)

    @property
    def steps_per_epoch(self) -> float:
        return self.rows / self.batch

    def _slack(self) -> int:
        """Tokens left free so that the grid of windows may start anywhere; none for data of a few windows."""
        return self.context - 1 if self.shuffle and self.split.tokens >= 8 * self.context else 0

    def __call__(self, step: int) -> Rows:
        """The rows of batch number `step`."""
        return self.take(step * self.batch, self.batch)

    def take(self, first: int, count: int) -> Rows:
        """`count` rows in the order of all passes, from row number `first`."""
        return self._rows([self._start(number) for number in range(first, first + count)])

    def _start(self, number: int) -> int:
        epoch, index = divmod(number, self.rows)
        if not self.shuffle:
            return index * self.context
        slack = self._slack()
        offset = permute(epoch % (slack + 1), slack + 1, self.seed ^ 0x5EED) if slack else 0
        return offset + permute(index, self.rows, self.seed * 1_000_003 + epoch) * self.context

    def _rows(self, starts: list[int]) -> Rows:
        rows = gather(self.split, starts, self.context, self.bos)
        if self.words is None:
            return rows
        return replace(rows, words=torch.from_numpy(np.stack([self.words(row) for row in rows.tokens.numpy()])))


@dataclass(frozen=True)
class Streams:
    """Rows are `batch` equal parts of the data read side by side: row r of batch i + 1 continues row r of batch i.

    Attributes:
        restart: chance that a row begins afresh, as a document would, at the border of two batches. A model that sees few
            documents would otherwise never learn what to do at the beginning of one.
        afresh: rows also begin afresh where a pass begins, without state. Always so with `restart`: a model that only knows
            beginnings of documents may lose its way in the middle of one, and not find back.
    """

    split: TokenStream
    context: int
    batch: int
    bos: int
    restart: float = 0.0
    seed: int = 0
    afresh: bool = False

    @property
    def length(self) -> int:
        """Tokens in each of the parallel parts."""
        return max(1, self.split.tokens // self.batch)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self.length // self.context)

    def __call__(self, step: int) -> Rows:
        position = (step % self.steps_per_epoch) * self.context
        rows = gather(self.split, [r * self.length + position for r in range(self.batch)], self.context, self.bos)
        if not self.restart:
            return replace(rows, begins=rows.begins | (self.afresh and self.restarts(step)))
        # A row that begins afresh goes on under document numbers that the batch before did not have.
        begun = torch.tensor([self._begun(r, step) for r in range(self.batch)])
        doc = torch.where(rows.doc == PADDING, PADDING, rows.doc + (begun[:, None] + 1) * len(self.split.ends))
        return replace(rows, doc=doc, begins=rows.begins | (begun == step))

    def _begun(self, row: int, step: int) -> int:
        """The newest batch, up to this one and within this pass, at which the row began afresh."""
        first = step - step % self.steps_per_epoch
        for earlier in range(step, first, -1):
            draw = hashlib.blake2b(f"{self.seed}:{row}:{earlier}".encode(), digest_size=8).digest()
            if int.from_bytes(draw, "little") < self.restart * 2**64:
                return earlier
        return first

    def restarts(self, step: int) -> bool:
        """Whether this batch begins a new pass, so that carried state must be dropped."""
        return step % self.steps_per_epoch == 0


def gather(split: TokenStream, starts: list[int], context: int, bos: int) -> Rows:
    """Rows of `context` tokens from the given places; a row that runs past the end of the data is filled with padding."""
    ends = split.ends
    tokens = np.zeros((len(starts), context), dtype=np.int64)
    doc = np.full((len(starts), context), PADDING, dtype=np.int64)
    previous = np.full(len(starts), bos, dtype=np.int64)
    begins = np.ones(len(starts), dtype=bool)
    for r, start in enumerate(starts):
        stop = min(start + context, split.tokens)
        tokens[r, : stop - start] = split.read(start, stop)
        doc[r, : stop - start] = _documents(ends, start, stop)
        if start > 0:
            previous[r] = split.read(start - 1, start)[0]
            begins[r] = ends[np.searchsorted(ends, start, side="right") - 1] == start if start >= ends[0] else False
    ids, documents, before, fresh = map(torch.from_numpy, (tokens, doc, previous, begins))
    return Rows(ids, documents, before, fresh, bos)


def _documents(ends: np.ndarray[Any, Any], start: int, stop: int) -> np.ndarray[Any, Any]:
    """Number of the document that each token in [start, stop) belongs to."""
    first, last = np.searchsorted(ends, [start, stop - 1], side="right")
    borders = np.minimum(ends[first : last + 1], stop) - start
    return np.repeat(np.arange(first, last + 1), np.diff(borders, prepend=0))
