"""What the driver knows of every document after the last round: hash, sizes, where it comes from. About 40 bytes for each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genus.prepare.batches import SOURCE_TEXT, TEXT
from genus.prepare.dataset import HELD_OUT, SPLITS
from genus.prepare.plan import Plan
from genus.prepare.splits import Documents
from genus.prepare.workspace import appearing

if TYPE_CHECKING:
    import pyarrow as pa

UNEVEN = 9
"""Times that one side of a pair is longer than the other from which they are hardly translations (as Moses cleans corpora)."""

_TYPES = {"digests": "<u8", "characters": np.int64, "sizes": np.int64, "sources": np.int32, "starts": bool}


class Recorder:
    """Notes every document of a unit as it goes by. `uneven`: pairs of very different lengths."""

    def __init__(self, plan: Plan, unit: int) -> None:
        self.uneven = 0
        self._source_of = np.array([part.source for part in plan.units[unit]], dtype=np.int32)
        self._arrays: dict[str, list[np.ndarray]] = {name: [] for name in _TYPES}

    def see(self, batch: pa.RecordBatch) -> None:
        characters, sizes = _lengths(batch, TEXT)
        if SOURCE_TEXT in batch.schema.names:
            others, other_sizes = _lengths(batch, SOURCE_TEXT)
            sizes = sizes + other_sizes
            self.uneven += int((np.maximum(characters, others) > UNEVEN * np.minimum(characters, others)).sum())
        seen = {
            "digests": digests(batch),
            "characters": characters,
            "sizes": sizes,
            "sources": self._source_of[batch.column("part").to_numpy()],
            "starts": batch.column("starts").to_numpy(zero_copy_only=False),
        }
        for name, array in seen.items():
            self._arrays[name].append(array)

    def save(self, path: Path) -> None:
        empty = {name: np.zeros((0, 2) if name == "digests" else 0, dtype=of) for name, of in _TYPES.items()}
        arrays = {name: np.concatenate([empty[name], *found]) for name, found in self._arrays.items()}
        with appearing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def digests(batch: pa.RecordBatch) -> np.ndarray:
    """128-bit hashes of the texts, or of the pairs: (rows, 2) uint64."""
    texts = _raw(batch, TEXT)
    if SOURCE_TEXT not in batch.schema.names:
        found = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts)
    else:
        lengths, _ = _lengths(batch, SOURCE_TEXT)
        hashes = []
        for text, source, length in zip(texts, _raw(batch, SOURCE_TEXT), lengths.tolist(), strict=True):
            whole = hashlib.blake2b(f"{length} ".encode(), digest_size=16)
            whole.update(source)
            whole.update(text)
            hashes.append(whole.digest())
        found = b"".join(hashes)
    return np.frombuffer(found, dtype="<u8").reshape(-1, 2)


def _raw(batch: pa.RecordBatch, column: str) -> list[memoryview]:
    """The UTF-8 of every text, where it lies."""
    import pyarrow as pa

    array = batch.column(column).cast(pa.large_binary())
    _, offsets, data = array.buffers()
    if data is None:
        return [memoryview(b"")] * len(array)
    ends = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1].tolist()
    view = memoryview(data)
    return [view[start:stop] for start, stop in pairwise(ends)]


def _lengths(batch: pa.RecordBatch, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(characters, UTF-8 bytes) of every text."""
    import pyarrow.compute as pc

    texts = batch.column(column)
    return pc.utf8_length(texts).to_numpy().astype(np.int64), pc.binary_length(texts).to_numpy().astype(np.int64)


@dataclass(frozen=True)
class Known:
    """Every document that the last round left, in order of reading.

    Attributes:
        documents: what the split rule looks at.
        sizes: (n,) int64, UTF-8 bytes (of pairs, both sides).
        sources: (n,) int32, number of the file.
        borders: (units + 1,) int64, the first document of every unit, and the end.
    """

    documents: Documents
    sizes: np.ndarray
    sources: np.ndarray
    borders: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def of(self, unit: int) -> slice:
        """The documents of a unit."""
        return slice(int(self.borders[unit]), int(self.borders[unit + 1]))

    @classmethod
    def load(cls, plan: Plan, files: list[Path]) -> Known:
        """Put the files of all units together."""
        given = np.array([SPLITS.index(s.split) if s.split in HELD_OUT else -1 for s in plan.sources], dtype=np.int8)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in _TYPES}
        for file in files:
            with np.load(file) as known:
                for name, arrays in parts.items():
                    arrays.append(known[name])
        all_of = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        documents = Documents(all_of["digests"], all_of["characters"], all_of["starts"], given[all_of["sources"]])
        borders = np.cumsum([0, *map(len, parts["sizes"])], dtype=np.int64)
        return cls(documents, all_of["sizes"], all_of["sources"], borders)
