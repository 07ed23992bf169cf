"""Counts of all n-grams of a corpus in bounded memory: sort, spill, merge, one order after the other.

Every gram of length k is known by one integer, `parent * vocab + word`, where `parent` is the rank of its first k - 1 words among
all grams of length k - 1. So each order needs one sort of 64-bit integers, whatever its length: a chunk of positions at a time is
sorted, its equal keys counted, and spilled; then key ranges of all spilled runs are merged, several at once on a thread pool.
The rank of the last k words at every position is kept in a file for the next order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ABSENT = -1  # rank of a gram that would begin before its document
BYTES_PER_ENTRY = 96  # working memory of a sort, per position

Progress = Callable[[str, int, int], None]


class TokenSplit(Protocol):
    """Documents as one stream of token ids, `Dataset.split(...)` for instance."""

    tokens: int
    ends: np.ndarray  # exclusive end of every document

    def read(self, start: int, stop: int) -> np.ndarray: ...


class Column:
    """A one-dimensional array in a .npy file, appended to and read in blocks, so that it never has to fit in memory."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self.path, self.dtype, self.size = path, np.dtype(dtype), 0
        self.file = open(path, "wb+")  # noqa: SIM115 - lives as long as the column
        self._write_header()
        self.offset = self.file.tell()

    def __len__(self) -> int:
        return self.size

    def _write_header(self) -> None:
        self.file.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.size,)}
        np.lib.format.write_array_header_1_0(self.file, header)  # numpy pads it, so that it can be rewritten in place

    def append(self, values: np.ndarray) -> None:
        self.write(self.size, values)

    def write(self, start: int, values: np.ndarray) -> None:
        self.file.seek(self.offset + start * self.dtype.itemsize)
        self.file.write(np.ascontiguousarray(values, self.dtype).data)
        self.file.flush()
        self.size = max(self.size, start + len(values))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Values start .. stop - 1; safe to call from several threads."""
        start, stop = max(start, 0), min(stop, self.size)
        offset = self.offset + start * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, max(stop - start, 0), offset=offset)

    def blocks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """(start, values) of consecutive blocks."""
        for start in range(0, self.size, size):
            yield start, self.read(start, start + size)

    def finish(self) -> None:
        """Record the length in the file's header and close it."""
        self._write_header()
        self.file.close()

    def delete(self) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)


@dataclass
class Grams:
    """All grams of one order, sorted by key. Columns of equal length, and one over positions."""

    order: int
    keys: Column
    counts: Column  # occurrences
    suffixes: Column  # rank of the gram without its first word, among the grams of the order below
    first_bos: int  # grams from here on begin a document
    nodes: Column  # rank of the gram that ends at each position of the corpus

    def delete(self) -> None:
        for column in (self.keys, self.counts, self.suffixes, self.nodes):
            column.delete()


@dataclass
class Counter:
    """Counts the grams of `split`, order by order, with about `memory` bytes of arrays.

    Attributes:
        vocab: number of token ids. bos: a position after this token begins a document, as the first of each document does.
        folder: where columns are kept. pool, workers: threads (numpy sorts without holding Python's lock).
    """

    split: TokenSplit
    vocab: int
    bos: int
    folder: Path
    memory: int
    pool: Executor
    workers: int
    progress: Progress

    def __post_init__(self) -> None:
        self.block = max(16, self.memory // (BYTES_PER_ENTRY * (self.workers + 1)))
        self.index = np.int32 if self.split.tokens < 2**31 - 1 else np.int64
        self.starts = np.concatenate([[0], self.split.ends[:-1]])

    def column(self, name: str, dtype: Any = None) -> Column:
        return Column(self.folder / f"{name}.npy", dtype or self.index)

    def unigrams(self) -> np.ndarray:
        """Occurrences of every token id.

        Raises:
            ValueError: a token id outside the vocabulary.
        """
        counts = np.zeros(self.vocab, np.int64)
        for start in range(0, self.split.tokens, self.block):
            tokens = self.split.read(start, min(start + self.block, self.split.tokens))
            if int(tokens.max()) >= self.vocab:
                raise ValueError(f"the data hold token {int(tokens.max())}, but the vocabulary has {self.vocab}: use its tokenizer")
            counts += np.bincount(tokens, minlength=self.vocab)
        return counts

    def next_order(self, below: Grams | None) -> Grams:
        """Grams one word longer than `below`; of order 2 when that is None."""
        order = 2 if below is None else below.order + 1
        parents = self.vocab + 1 if below is None else len(below.keys)
        limit = parents * self.vocab
        if limit >= 2**63:
            raise ValueError(f"{parents} grams of order {order - 1} over {self.vocab} tokens are too many for 64-bit keys")
        runs = Grams(order, *(self.column(f"{n}_{order}_run", d) for n, d in _FIELDS), 0, self.column(f"nodes_{order}_run"))
        bounds, samples = [0], []
        count = -(-self.split.tokens // self.block)
        stride = max(1, self.block // (8 * count))
        for done, (keys, counts, suffixes, ranks) in enumerate(
            in_order(self.pool, lambda start: self._sort_chunk(start, below, limit), self._chunks(), self.workers)
        ):
            self.progress(f"order {order}: sort", done, count)
            for column, values in zip((runs.keys, runs.counts, runs.suffixes, runs.nodes), (keys, counts, suffixes, ranks), strict=True):
                column.append(values)
            bounds.append(len(runs.keys))
            samples.append(keys[::stride])
        grams = runs if count == 1 else self._merge(runs, np.array(bounds), np.sort(np.concatenate(samples)), stride, limit)
        first_parent = self.vocab if below is None else below.first_bos
        grams.first_bos = int(np.searchsorted(np.load(grams.keys.path, mmap_mode="r") if False else _view(grams.keys), first_parent * self.vocab))
        return grams
