"""Counts of all n-grams of a corpus in bounded memory: sort, spill, merge, one order after the other.

Every gram of length k is known by one integer, `parent * vocab + word`, where `parent` is the rank of its first k - 1 words among
all grams of length k - 1. So each order needs one sort of 64-bit integers, whatever its length: a chunk of positions at a time is
sorted, its equal keys counted, and spilled; then key ranges of all spilled runs are merged, several at once on a thread pool.
The rank of the last k words at every position is kept in a file for the next order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ABSENT = -1  # rank of a gram that would begin before its document
BYTES_PER_ENTRY = 128  # memory of a sort, per position, with what the allocator keeps (measured)
FAST_BLOCK = 2**20  # longer sorts are slower, as they leave the cache

Progress = Callable[[str, int, int], None]


class TokenSplit(Protocol):
    """Documents as one stream of token ids, `Dataset.split(...)` for instance."""

    @property
    def tokens(self) -> int: ...
    @property
    def ends(self) -> np.ndarray: ...  # exclusive end of every document

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

    def view(self) -> np.ndarray:
        """The values, memory-mapped: for binary searches, which touch few pages."""
        if not self.size:
            return np.empty(0, self.dtype)
        return np.memmap(self.path, self.dtype, "r", self.offset, (self.size,))

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
        affordable = self.memory // (BYTES_PER_ENTRY * (self.workers + 1))
        self.block = max(16, min(affordable, max(FAST_BLOCK, self.split.tokens // 256)))
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
                raise ValueError(
                    f"the data hold token {int(tokens.max())}, but the vocabulary has {self.vocab}: use its tokenizer"
                )
            counts += np.bincount(tokens, minlength=self.vocab)
        return counts

    def next_order(self, below: Grams | None, top: bool) -> Grams:
        """Grams one word longer than `below`; of order 2 when that is None. `top`: no longer ones will be asked for."""
        order = 2 if below is None else below.order + 1
        parents = self.vocab + 1 if below is None else len(below.keys)
        if parents * self.vocab >= 2**63:
            raise ValueError(f"{parents} grams of order {order - 1} over {self.vocab} tokens are too many for 64-bit keys")
        runs = self._grams(order, f"{order}_runs")
        bounds, samples = [0], []
        stride = max(1, self.block // (8 * len(self._chunks())))
        for keys, counts, suffixes, nodes in self._parallel(
            f"order {order}: sort", lambda start: self._sort_chunk(start, below, parents * self.vocab, top), self._chunks()
        ):
            runs.keys.append(keys)
            runs.counts.append(counts)
            runs.suffixes.append(suffixes)
            runs.nodes.append(nodes)
            bounds.append(len(runs.keys))
            samples.append(keys[::stride].copy())  # a view would keep the whole chunk
        grams = runs
        if len(bounds) > 2:
            step = max(1, self.block // stride - len(bounds))
            splitters = np.unique(np.sort(np.concatenate(samples))[step::step])
            grams = self._merge(runs, np.array(bounds), splitters, parents * self.vocab, top)
            runs.delete()
        first_parent = self.vocab if below is None else below.first_bos
        grams.first_bos = int(np.searchsorted(grams.keys.view(), first_parent * self.vocab))
        return grams

    def _grams(self, order: int, name: str) -> Grams:
        counts, suffixes = (self.column(f"{field}_{name}") for field in ("counts", "suffixes"))
        return Grams(order, self.column(f"keys_{name}", np.int64), counts, suffixes, 0, self.column(f"nodes_{name}"))

    def _chunks(self) -> range:
        return range(0, self.split.tokens, self.block)

    def _parallel(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """`work(item)` of every item, in order, with few results held at once."""
        waiting: deque[Future[Any]] = deque()
        for done, item in enumerate(items):
            waiting.append(self.pool.submit(work, item))
            if len(waiting) > self.workers:
                yield waiting.popleft().result()
            self.progress(stage, done, len(items))
        while waiting:
            yield waiting.popleft().result()

    def _sort_chunk(self, start: int, below: Grams | None, limit: int, top: bool) -> tuple[np.ndarray, ...]:
        """Sorted keys of a chunk of positions, their counts and suffixes, and the rank among them of each position's gram."""
        stop = min(start + self.block, self.split.tokens)
        lead = min(start, 1)  # the position before the chunk
        words = self.split.read(start - lead, stop).astype(np.int64)
        fresh = np.zeros(stop - start, bool)
        low, high = np.searchsorted(self.starts, (start, stop))
        fresh[self.starts[low:high] - start] = True
        fresh[1 - lead :] |= words[:-1] == self.bos
        ending = words if below is None else below.nodes.read(start - lead, stop)  # gram of order - 1 at each position
        parent = np.empty(stop - start, np.int64)
        parent[1 - lead :] = ending[:-1]
        parent[fresh] = self.vocab if below is None else ABSENT
        words, ending = words[lead:], ending[lead:]
        present = np.flatnonzero(parent >= 0)
        keys = parent[present] * self.vocab + words[present]
        del parent, words
        keys, position = sort_with_positions(keys, limit)
        first = _first_of_equal(keys)
        at = np.flatnonzero(first)
        nodes = np.empty(0, self.index)
        if not top:
            nodes = np.full(stop - start, ABSENT, self.index)
            nodes[present[position]] = np.cumsum(first, dtype=self.index) - 1
        counts = np.diff(at, append=len(keys)).astype(self.index)
        return keys[at], counts, ending[present[position[at]]].astype(self.index), nodes

    def _merge(self, runs: Grams, bounds: np.ndarray, splitters: np.ndarray, limit: int, top: bool) -> Grams:
        """One sorted set of grams from several runs: `bounds` in the columns of `runs`; `splitters` part the keys."""
        cuts = np.empty((len(bounds) - 1, len(splitters) + 2), np.int64)
        cuts[:, 0], cuts[:, -1] = bounds[:-1], bounds[1:]
        for run, (start, stop) in enumerate(pairwise(bounds)):
            # a new map for each run: pages of an old one would stay in memory
            cuts[run, 1:-1] = start + np.searchsorted(runs.keys.view()[start:stop], splitters)
        grams = self._grams(runs.order, str(runs.order))
        ranks = self.column(f"ranks_{runs.order}")  # of each entry of the runs, in the merged order
        parts = range(len(splitters) + 1)
        for part, (merged_keys, counts, suffixes, local) in zip(
            parts,
            self._parallel(f"order {runs.order}: merge", lambda p: merge_runs(runs, cuts[:, p], cuts[:, p + 1], limit), parts),
            strict=True,
        ):
            lengths = cuts[:, part + 1] - cuts[:, part]
            if not top:
                for start, piece in zip(cuts[:, part], np.split(local + len(grams.keys), np.cumsum(lengths)[:-1]), strict=True):
                    ranks.write(int(start), piece)
            grams.keys.append(merged_keys)
            grams.counts.append(counts)
            grams.suffixes.append(suffixes)
        for chunk, (_, local) in enumerate(runs.nodes.blocks(self.block)):
            rank = ranks.read(int(bounds[chunk]), int(bounds[chunk + 1]))
            present = local >= 0
            local[present] = rank[local[present]]
            grams.nodes.append(local)
        ranks.delete()
        return grams


def merge_runs(runs: Grams, starts: np.ndarray, stops: np.ndarray, limit: int) -> tuple[np.ndarray, ...]:
    """Slices of several sorted runs as one: keys, summed counts, suffixes, and where each entry of the slices went."""
    ranges = [(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]
    keys = np.concatenate([runs.keys.read(a, b) for a, b in ranges])
    keys, position = sort_with_positions(keys, limit)
    first = _first_of_equal(keys)
    at = np.flatnonzero(first)
    keys = keys[at]
    where = np.empty(len(position), np.int64)
    where[position] = np.cumsum(first) - 1
    counts = np.concatenate([runs.counts.read(a, b) for a, b in ranges])[position]
    suffixes = np.concatenate([runs.suffixes.read(a, b) for a, b in ranges])
    return keys, np.add.reduceat(counts, at) if len(at) else counts, suffixes[position[at]], where


def sort_with_positions(keys: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(sorted keys, where each came from); keys are int64 in [0, limit)."""
    bits = len(keys).bit_length()
    if limit.bit_length() + bits > 63:
        order = np.argsort(keys)
        return keys[order], order
    packed = (keys << bits) | np.arange(len(keys))  # sorting values is twice as fast as sorting indices
    packed.sort()
    return packed >> bits, packed & ((1 << bits) - 1)


def _first_of_equal(keys: np.ndarray) -> np.ndarray:
    first = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return first
