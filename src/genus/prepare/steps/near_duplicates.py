"""Near-duplicates: of documents that are alike but for a few words, one is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.prepare.batches import TEXT
from genus.prepare.components import Components
from genus.prepare.minhash import band_hashes, bands_for, chance, permutations, signatures, similarity
from genus.prepare.steps.step import Function, Outcome, Place, Survey, keep
from genus.prepare.words import blocks, find_words, windows

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST, FIRST = "longest", "first"
REASON = "near-duplicate"
PLACE = ("part", "line", "name")
"""Columns by which a document that is kept is named."""
PAIRS_AT_ONCE = 2**16


@dataclass(frozen=True)
class NearDuplicates(Survey):
    """Of documents that are nearly the same, keep the best one (MinHash-LSH, connected components).

    Two documents are as similar as the sets of their shingles are: common ones / all (Jaccard). Shingles are runs of words, in
    small letters and without punctuation; in scripts without spaces, such as Chinese, every character is a word.

    Documents of ready-made validation and test sets all stay: of their duplicates those that would be trained on go.

    Attributes:
        threshold: similarity at which a pair is found with a chance of 90 % or more; bands are computed from it.
        shingle: words of a shingle.
        hashes: at most so many hash functions; more make the border sharper.
        keep: which of a group of duplicates stays: "longest" (the first of those), "first", or the name of a column of scores
            that a step before left ("classifier.good"), where the highest stays.
        verify: compare the whole signatures of the pairs that were found, and let go those below the threshold. Drops fewer
            documents that are less similar, and misses more of those about as similar as the threshold.
        seed: of the hash functions.
    """

    NAME: ClassVar[str] = "near-duplicates"

    threshold: float = 0.8
    shingle: int = 5
    hashes: int = 112
    keep: str = LONGEST
    verify: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(
                f"{self.NAME}:threshold={self.threshold}: give a share of common shingles between 0 and 1, such as 0.8"
            )
        if self.shingle < 1 or self.hashes < 1:
            raise ValueError(f"{self.NAME}: shingle={self.shingle} and hashes={self.hashes} must be 1 or more")

    @property
    def bands(self) -> tuple[int, int]:
        """(bands, rows of each)."""
        return bands_for(self.threshold, self.hashes)

    def observe(self, batch: pa.RecordBatch) -> pa.Table | None:
        """Bands of every document that has a word, what it is judged by, and where it stands."""
        import pyarrow as pa

        bands, rows = self.bands
        functions = permutations(bands * rows, self.seed or 0)
        signed, filled = [], []
        for texts in blocks(batch.column(TEXT)):
            shingles, offsets = windows(find_words(texts), self.shingle, short=True)
            some = np.diff(offsets) > 0
            signed.append(signatures(shingles, np.append(offsets[:-1][some], offsets[-1]), functions))
            filled.append(some)
        if not filled or not any(some.any() for some in filled):
            return None
        signature, has_words = np.concatenate(signed), pa.array(np.concatenate(filled))
        table = {name: batch.column(name).filter(has_words) for name in ("row", "held_out", *PLACE)}
        table["score"] = pa.array(self._scores(batch)).filter(has_words)
        for band, hashes in enumerate(band_hashes(signature, bands, rows)):
            table[f"band{band}"] = pa.array(hashes)
        if self.verify:
            lowest = signature.astype(np.uint8)
            table["signature"] = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(bands * rows), len(lowest), [None, pa.py_buffer(lowest.tobytes())]
            )
        return pa.table(table)

    def decide(self, observed: Iterable[tuple[int, pa.Table]], folder: Path, seed: int) -> dict[str, Any]:
        """Link documents with a band in common, and choose one of every group."""
        units, tables = zip(*observed) if (observed := list(observed)) else ((), ())
        bands, rows = self.bands
        firsts = np.concatenate([[0], np.cumsum([table.num_rows for table in tables], dtype=np.int64)])
        components = Components(int(firsts[-1]))
        compared = _Signatures(tables, bands * rows, folder) if self.verify and tables else None
        for band in range(bands if tables else 0):
            for left, right in _equals(_gather(tables, f"band{band}")):
                if compared is not None:
                    alike = compared.similarity(left, right) >= self.threshold
                    left, right = left[alike], right[alike]
                components.join(left, right)
        if compared is not None:
            compared.close()
        dropped, kept = _choose(components.labels, _gather(tables, "score"), _gather(tables, "held_out").astype(bool))
        _write(dropped, kept, units, tables, firsts, folder)
        sizes = np.unique(kept, return_counts=True)[1] + 1
        return {
            "groups": len(sizes),
            "largest group": int(sizes.max(initial=0)),
            "bands": bands,
            "rows": rows,
            "chance at the threshold": round(chance(self.threshold, bands, rows), 4),
        }

    def apply(self, folder: Path, unit: int) -> Function:
        """Drop what was decided, and name the document that is kept instead."""
        import pyarrow as pa

        file = folder / f"{unit}.arrow"
        if not file.exists():
            return lambda batch: Outcome(batch, [], [], {})
        with pa.OSFile(str(file), "rb") as opened:
            decided = pa.ipc.open_file(opened).read_all()
        rows = decided.column("row").to_numpy()
        places = [Place(*each.values()) for each in decided.drop_columns("row").to_pylist()]

        def function(batch: pa.RecordBatch) -> Outcome:
            of = batch.column("row").to_numpy()
            at = np.minimum(np.searchsorted(rows, of), len(rows) - 1)
            gone = rows[at] == of
            return keep(batch, ~gone, REASON, instead={i: places[at[i]] for i in np.flatnonzero(gone).tolist()})

        return function

    def _scores(self, batch: pa.RecordBatch) -> np.ndarray:
        """(n,) float64, the higher the better."""
        import pyarrow.compute as pc

        if self.keep == FIRST:
            return np.zeros(batch.num_rows)
        if self.keep == LONGEST:
            return pc.utf8_length(batch.column(TEXT)).to_numpy().astype(np.float64)
        if self.keep not in batch.schema.names:
            scores = [field.name for field in batch.schema if str(field.type) in ("float", "double")]
            raise ValueError(
                f"{self.NAME}:keep={self.keep}: no step before it left a column of this name; "
                f"choose one of {', '.join([LONGEST, FIRST, *scores])}, or run the step that scores first"
            )
        scores = pc.fill_null(batch.column(self.keep).cast("double"), -np.inf).to_numpy(zero_copy_only=False)
        return np.where(np.isnan(scores), -np.inf, scores)


class _Signatures:
    """The signatures of all documents in one file, mapped."""

    def __init__(self, tables: tuple[pa.Table, ...], width: int, folder: Path) -> None:
        self._file = folder / "signatures"
        with open(self._file, "wb") as file:
            for table in tables:
                for chunk in table.column("signature").chunks:
                    file.write(memoryview(chunk.buffers()[1])[chunk.offset * width : (chunk.offset + len(chunk)) * width])
        self._all = np.memmap(self._file, dtype=np.uint8, mode="r").reshape(-1, width)

    def similarity(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return similarity(self._all[left], self._all[right])

    def close(self) -> None:
        del self._all
        self._file.unlink()


def _gather(tables: tuple[pa.Table, ...], name: str) -> np.ndarray:
    return np.concatenate([table.column(name).to_numpy() for table in tables]) if tables else np.zeros(0)


def _equals(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Neighbours in every set of documents with equal values, as portions of edges; a document is linked to the one before it."""
    order = np.argsort(values, kind="stable")
    values = values[order]
    places = np.flatnonzero(values[1:] == values[:-1])
    for start in range(0, len(places), PAIRS_AT_ONCE):
        at = places[start : start + PAIRS_AT_ONCE]
        yield order[at], order[at + 1]


def _choose(labels: np.ndarray, scores: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(documents dropped, in order; the documents kept instead): of every component all but the best, the first of equals.

    What is held out is better than all that is not, and never dropped.
    """
    grouped = np.zeros(len(labels), dtype=bool)
    linked = labels != np.arange(len(labels))
    grouped[linked] = grouped[labels[linked]] = True
    members = np.flatnonzero(grouped)
    order = members[np.lexsort((members, -scores[members], ~held_out[members], labels[members]))]
    new = np.ones(len(order), dtype=bool)
    new[1:] = labels[order[1:]] != labels[order[:-1]]
    best = order[new][np.cumsum(new) - 1] if len(order) else order
    goes = ~new & ~held_out[order]
    dropped, kept = order[goes], best[goes]
    ascending = np.argsort(dropped)
    return dropped[ascending], kept[ascending]


def _write(
    dropped: np.ndarray, kept: np.ndarray, units: tuple[int, ...], tables: tuple[pa.Table, ...], firsts: np.ndarray, folder: Path
) -> None:
    """For every unit: the rows that go, and unit, part, line and name of what stays for each."""
    import pyarrow as pa

    unit_of = np.searchsorted(firsts, kept, side="right") - 1
    order = np.argsort(unit_of, kind="stable")
    borders = np.searchsorted(unit_of[order], np.arange(len(tables) + 1))
    found = []
    for number, (one, two) in enumerate(pairwise(borders)):
        local = pa.array(kept[order[one:two]] - firsts[number])
        columns = {name: tables[number].column(name).take(local) for name in PLACE}
        found.append(pa.table({"unit": np.full(two - one, units[number]), **columns}))
    places = pa.concat_tables(found).take(pa.array(np.argsort(order))) if found else None
    borders = np.searchsorted(dropped, firsts)
    for number, (one, two) in enumerate(pairwise(borders)):
        if two > one and places is not None:
            rows = tables[number].column("row").take(pa.array(dropped[one:two] - firsts[number]))
            decided = places.slice(one, two - one).add_column(0, "row", rows)
            with pa.ipc.new_file(str(folder / f"{units[number]}.arrow"), decided.schema) as file:
                file.write_table(decided)
