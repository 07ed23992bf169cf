"""The funnel: how many documents and bytes every step left, and what it dropped and changed, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genus.prepare.batches import text_bytes

if TYPE_CHECKING:
    import pyarrow as pa

    from genus.prepare.steps.step import Outcome


@dataclass
class Tally:
    """What a step did to many batches.

    Attributes:
        documents, bytes: left after it, which is what came in and what it took away. dropped, changed: by reason.
        counts: the step's own figures.
    """

    documents: int = 0
    bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def enter(self, batch: pa.RecordBatch) -> None:
        """Documents that are left."""
        self.documents += batch.num_rows
        self.bytes += text_bytes(batch)

    def pass_on(self, outcome: Outcome) -> None:
        """What became of a batch."""
        self.enter(outcome.batch)
        self.dropped.update(drop.reason for drop in outcome.drops)
        self.changed.update(change.reason for change in outcome.changes)
        self.counts.update(outcome.counts)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        return {
            "documents": self.documents,
            "bytes": self.bytes,
            "dropped": _ranked(self.dropped),
            "changed": _ranked(self.changed),
            "counts": dict(sorted(self.counts.items())),
        }

    def add(self, told: Mapping[str, Any]) -> None:
        """Add what `to_json` of another gave."""
        self.documents += told["documents"]
        self.bytes += told["bytes"]
        self.dropped.update(told["dropped"])
        self.changed.update(told["changed"])
        self.counts.update(told["counts"])

    def entry(self, step: str, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The entry of the manifest."""
        told = self.to_json()
        counts = told.pop("counts")
        return {"step": step, **told, "facts": {**counts, **(facts or {})}}


def _ranked(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
