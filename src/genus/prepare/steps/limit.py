"""Keep a number of documents, or of bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.prepare.batches import columns, held_out
from genus.prepare.steps.sample import below, places
from genus.prepare.steps.step import Function, Survey

if TYPE_CHECKING:
    import pyarrow as pa

REASON = "beyond the limit"
BORDER = "border.json"
BITS = 16
"""A first pass counts what lies in each of 2^16 equal parts of the hashes, a second sorts the one part where the limit falls."""


@dataclass(frozen=True)
class Limit(Survey):
    """Keep so many documents, or so many megabytes of text, chosen by the hash of their text and a seed.

    Both limits hold where both are given. A run with a larger limit keeps what one with a smaller limit kept, and more.
    Ready-made validation and test sets stay whole and do not count.

    Attributes:
        documents: at most so many. megabytes: of text (10^6 bytes of UTF-8), at most so many, but at least one document.
        seed: another seed keeps others; that of the run when not given.
    """

    NAME: ClassVar[str] = "limit"
    PAIRS: ClassVar[bool] = True

    documents: int | None = None
    megabytes: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("documents", self.documents), ("megabytes", self.megabytes)):
            if value is not None and value <= 0:
                raise ValueError(f"limit:{name}={value:g}: give a number above 0")

    def observe(self, batch: pa.RecordBatch) -> pa.Table | None:
        import pyarrow as pa

        if self.documents is None and self.megabytes is None:
            raise ValueError("limit: say how much, such as limit:documents=1000 or limit:megabytes=20")
        batch = batch.filter(pa.array(~held_out(batch)))
        return pa.table({"row": batch.column("row"), "place": places(batch, self.seed or 0), "bytes": _bytes(batch)})

    def decide(self, observed: Iterable[tuple[int, pa.Table]], folder: Path, seed: int) -> dict[str, Any]:
        borders = [
            _border(observed, most, sized)
            for most, sized in ((self.documents, False), (self.megabytes and self.megabytes * 1e6, True))
            if most is not None
        ]
        border = min(borders, default=2**64)
        (folder / BORDER).write_text(json.dumps(border), encoding="utf-8")
        return {"share of the hashes": border / 2**64}

    def apply(self, folder: Path, unit: int) -> Function:
        return below(json.loads((folder / BORDER).read_text(encoding="utf-8")), self.seed or 0, REASON)


def _bytes(batch: pa.RecordBatch) -> np.ndarray:
    """UTF-8 bytes of every document, of pairs both sides."""
    import pyarrow.compute as pc

    total = np.zeros(batch.num_rows, dtype=np.int64)
    for name in columns(batch):
        total += pc.binary_length(batch.column(name)).to_numpy()
    return total


def _border(observed: Iterable[tuple[int, pa.Table]], most: float, sized: bool) -> int:
    """The place from which documents are left out, so that those before it are at most `most`; 2^64 when all fit."""
    totals = np.zeros(2**BITS, dtype=np.int64)
    shift = np.uint64(64 - BITS)
    for _, table in observed:
        place, weight = _columns(table, sized)
        np.add.at(totals, (place >> shift).astype(np.int64), weight)
    sums = np.cumsum(totals)
    if sums[-1] <= most:
        return 2**64
    part = int(np.searchsorted(sums, most, side="right"))
    found = [(place[inside], weight[inside]) for place, weight, inside in _in_part(observed, sized, part, shift)]
    place, weight = (np.concatenate(arrays) for arrays in zip(*found))
    order = np.argsort(place, kind="stable")
    place, upto = place[order], np.cumsum(weight[order]) + (sums[part - 1] if part else 0)
    last = int(np.searchsorted(upto, most, side="right"))
    border = int(place[last])
    return border + 1 if border == _first(observed, sized) else border


def _first(observed: Iterable[tuple[int, pa.Table]], sized: bool) -> int:
    """The place of the first document of all, which is kept even where it alone is too large."""
    return min(int(_columns(table, sized)[0].min()) for _, table in observed if table.num_rows)


def _in_part(
    observed: Iterable[tuple[int, pa.Table]], sized: bool, part: int, shift: np.uint64
) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for _, table in observed:
        place, weight = _columns(table, sized)
        yield place, weight, (place >> shift) == np.uint64(part)


def _columns(table: pa.Table, sized: bool) -> tuple[np.ndarray, np.ndarray]:
    place = table.column("place").to_numpy()
    return place, table.column("bytes").to_numpy() if sized else np.ones(len(place), dtype=np.int64)
