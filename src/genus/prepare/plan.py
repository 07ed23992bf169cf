"""The plan of a preparation: everything the result depends on, as one JSON value. Equal plans give equal folders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from genus.prepare import steps
from genus.prepare.mixture import Share
from genus.prepare.sources import Source
from genus.prepare.steps.step import Step
from genus.prepare.units import Part


@dataclass(frozen=True)
class Plan:
    """What to read, in which units, and how.

    Attributes:
        split_documents: "file", "blank-line" or "line": what a document is in plain text.
        steps: what cleans the documents, in order.
        mixture: the shares of groups of sources; empty when all is taken as it is.
        options: the rest of what the user said.
    """

    sources: Sequence[Source]
    units: Sequence[Sequence[Part]]
    split_documents: str
    options: dict[str, Any]
    steps: tuple[Step, ...] = ()
    mixture: tuple[Share, ...] = ()

    @property
    def pairs(self) -> bool:
        """Whether every document is a source and its target."""
        return bool(self.options.get("pairs"))

    @property
    def seed(self) -> int:
        return int(self.options.get("seed", 0))

    @property
    def most_bytes(self) -> float:
        """Characters that a unit may give at most: bounded in a dry run."""
        return float(self.options.get("most_bytes", math.inf))

    def to_json(self) -> dict[str, Any]:
        return {
            "sources": [asdict(source) for source in self.sources],
            "units": [[[part.source, part.start, part.stop, part.beside] for part in unit] for unit in self.units],
            "split_documents": self.split_documents,
            "options": self.options,
            "steps": [steps.to_json(step) for step in self.steps],
            "mixture": [asdict(share) for share in self.mixture],
        }

    @classmethod
    def from_json(cls, plan: dict[str, Any]) -> Plan:
        return cls(
            [Source(**source) for source in plan["sources"]],
            [[Part(*part) for part in unit] for unit in plan["units"]],
            plan["split_documents"],
            plan["options"],
            tuple(steps.from_json(step) for step in plan["steps"]),
            tuple(Share(**share) for share in plan["mixture"]),
        )
