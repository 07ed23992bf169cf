"""What a cleaning step is: a frozen value that turns record batches into record batches, and tells what it dropped and changed.

A step never sees a file, a worker or an engine. `Step.ready()` loads what it needs, once in every process, and returns a pure
function of one batch. A `Survey` also decides on what it has seen of *all* documents, such as which of them are near-duplicates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from genus.prepare.batches import TEXT, columns
from genus.prepare.items import EXCERPT, excerpt

if TYPE_CHECKING:
    import pyarrow as pa

BEFORE = 40
"""Characters shown before the place where a text was changed."""


class Place(NamedTuple):
    """Where a document stands: columns of its batch, and the unit."""

    unit: int
    part: int
    line: int
    name: str | None = None


@dataclass(frozen=True)
class Drop:
    """A document that is left out. `reason` is short, countable and the same for all its like: "mostly symbols".

    `instead`: where the document stands that is kept in its place, if there is one.
    """

    row: int
    reason: str
    excerpt: str = ""
    instead: Place | None = None


@dataclass(frozen=True)
class Change:
    """A document that is kept with another text; the excerpts begin a little before the first difference."""

    row: int
    reason: str
    before: str = ""
    after: str = ""


class Outcome(NamedTuple):
    """What became of a batch: the documents that are left, in their order, and what was done to the others.

    `counts`: further figures for the report, summed over all batches.
    """

    batch: pa.RecordBatch
    drops: list[Drop]
    changes: list[Change]
    counts: dict[str, int | float]


Function = Callable[["pa.RecordBatch"], Outcome]


@dataclass(frozen=True)
class Step:
    """Base of the cleaning steps: frozen dataclasses of at most 12 fields, each a number, text, truth value or tuple of these.

    A field `seed: int | None = None` gets the seed of the run when nothing else was said.
    """

    NAME: ClassVar[str]
    """What the command line calls it, such as "near-duplicates"."""
    PAIRS: ClassVar[bool] = False
    """Whether it may run on pairs, where `columns(batch)` are two."""

    @property
    def column(self) -> str | None:
        """The column of scores that it adds to the documents, if it adds one."""
        return None

    def reads(self) -> tuple[str, ...]:
        """Files, folders and globs that the result depends on, beside the documents: models, lists, evaluation sets."""
        return ()

    def ready(self) -> Function:
        """The function of a batch. Called once in every process; what takes long to load is loaded here."""
        raise NotImplementedError


@dataclass(frozen=True)
class Survey(Step):
    """A step that has to see everything before it decides. It has no `ready`, but three phases of its own."""

    def observe(self, batch: pa.RecordBatch) -> pa.Table | None:
        """A few bytes about every document (or line) of a batch, with a column `row`; None when there is nothing to say."""
        raise NotImplementedError

    def decide(self, observed: Iterable[tuple[int, pa.Table]], folder: Path, seed: int) -> dict[str, Any]:
        """Decide, once, in one process.

        Args:
            observed: (unit, what `observe` said of it), in order of units, mapped from disk; may be gone through several times.
                Units of which nothing was said are missing.
            folder: an empty folder, for whatever `apply` needs, and for sorting on disk. It must not depend on anything but
                what was observed and the seed.

        Returns:
            Facts for the report (JSON).
        """
        raise NotImplementedError

    def apply(self, folder: Path, unit: int) -> Function:
        """The function of a batch of one unit, from what `decide` left in its folder."""
        raise NotImplementedError


def keep(
    batch: pa.RecordBatch,
    decision: Sequence[str | None] | Sequence[bool] | np.ndarray,
    reason: str = "",
    excerpts: Mapping[int, str] | None = None,
    counts: dict[str, int | float] | None = None,
    instead: Mapping[int, Place] | None = None,
) -> Outcome:
    """Drop some documents of a batch.

    Args:
        decision: for every document why it is dropped, None for one that is kept; or whether it is kept, all others for `reason`.
        excerpts: by position in the batch, what to show instead of the beginning of the text.
        instead: by position in the batch, where the document stands that is kept in its place.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    reasons = [(None if each else reason) if isinstance(each, bool | np.bool_) else each for each in decision]
    if len(reasons) != batch.num_rows:
        raise ValueError(f"{len(reasons)} decisions on {batch.num_rows} documents")
    gone = [i for i, each in enumerate(reasons) if each is not None]
    if not gone:
        return Outcome(batch, [], [], dict(counts or {}))
    at = pa.array(gone, type=pa.int64())
    rows = batch.column("row").take(at).to_pylist()
    starts = pc.utf8_slice_codeunits(batch.column(TEXT).take(at), 0, EXCERPT).to_pylist()
    shown = [excerpt((excerpts or {}).get(i, start)) for i, start in zip(gone, starts, strict=True)]
    places = instead or {}
    drops = [Drop(row, str(reasons[i]), text, places.get(i)) for row, i, text in zip(rows, gone, shown, strict=True)]
    left = np.ones(batch.num_rows, dtype=bool)
    left[gone] = False
    return Outcome(batch.filter(pa.array(left)), drops, [], dict(counts or {}))


def replace_text(
    batch: pa.RecordBatch,
    texts: Sequence[str | None],
    reasons: Sequence[str | None] | str,
    column: str = TEXT,
    counts: dict[str, int | float] | None = None,
) -> Outcome:
    """Give documents of a batch other texts. A document of which nothing is left is dropped ("<reason>: nothing left").

    Args:
        texts: for every document its new text; None, or the same text, for one that stays as it is.
        reasons: why, for every document or for all.
        column: which text, of pairs.
    """
    old = batch.column(column)
    if len(texts) != len(old):
        raise ValueError(f"{len(texts)} texts for {len(old)} documents")
    new = old.to_pylist()
    rows = batch.column("row")
    changes: list[Change] = []
    empty: list[str | None] = [None] * len(new)
    for i, text in enumerate(texts):
        if text is None or text == new[i]:
            continue
        reason = reasons if isinstance(reasons, str) else (reasons[i] or "changed")
        if text.strip():
            changes.append(Change(rows[i].as_py(), reason, *around(new[i], text)))
            new[i] = text
        else:
            empty[i] = f"{reason}: nothing left"
    if not changes and not any(empty):
        return Outcome(batch, [], [], dict(counts or {}))
    left = keep(batch, empty)
    if not changes:
        return Outcome(batch=left.batch, drops=left.drops, changes=[], counts=dict(counts or {}))
    kept = [text for text, reason in zip(new, empty, strict=True) if reason is None]
    return Outcome(set_column(left.batch, column, kept), left.drops, changes, dict(counts or {}))


def set_column(batch: pa.RecordBatch, name: str, values: Any, of: pa.DataType | None = None) -> pa.RecordBatch:
    """The batch with a column replaced or added. A new one holds float32 unless its type is given."""
    import pyarrow as pa

    at = batch.schema.get_field_index(name)
    if at < 0:
        column = pa.array(values, type=of or pa.float32())
        return batch.append_column(pa.field(name, column.type), column)
    known = batch.schema.field(at)
    return batch.set_column(at, known, pa.array(values, type=known.type))


def follow(first: Outcome, function: Function) -> Outcome:
    """Run a function on what another left, and tell both."""
    second = function(first.batch)
    counts: Counter[str] = Counter(first.counts)  # type: ignore[arg-type]
    counts.update(second.counts)  # type: ignore[arg-type]
    return Outcome(second.batch, first.drops + second.drops, first.changes + second.changes, dict(counts))


def each_column(batch: pa.RecordBatch, function: Callable[[pa.RecordBatch, str], Outcome]) -> Outcome:
    """Run a function on every column of text: once, or on both sides of pairs."""
    outcome = Outcome(batch, [], [], {})
    for name in columns(batch):
        outcome = follow(outcome, lambda left, name=name: function(left, name))  # type: ignore[misc]
    return outcome


def around(before: str, after: str) -> tuple[str, str]:
    """Excerpts of two texts from a little before the place where they part."""
    shorter, block, at = min(len(before), len(after)), 4096, 0
    while at < shorter and before[at : at + block] == after[at : at + block]:
        at += block
    while at < shorter and before[at] == after[at]:
        at += 1
    start = max(0, at - BEFORE)
    return tuple(("…" if start else "") + excerpt(text[start : start + EXCERPT]) for text in (before, after))  # type: ignore[return-value]
