"""The plan of a preparation: everything the result depends on, as one JSON value. Equal plans give equal folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from genus.prepare.sources import Source
from genus.prepare.units import Part

EXPANSION = {"gz": 4, "zst": 4, None: 1}
"""Guess of how much a compressed source grows, to size the tokenizer's sample."""


@dataclass(frozen=True)
class Plan:
    """What to read, in which units, and how.

    Attributes:
        split_documents: "file", "blank-line" or "line": what a document is in plain text.
        sample: share of the text to put aside for training the tokenizer.
        options: the rest of what the user said.
    """

    sources: Sequence[Source]
    units: Sequence[Sequence[Part]]
    split_documents: str
    sample: float
    options: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "sources": [asdict(source) for source in self.sources],
            "units": [[[part.source, part.start, part.stop, part.beside] for part in unit] for unit in self.units],
            "split_documents": self.split_documents,
            "sample": self.sample,
            "options": self.options,
        }

    @classmethod
    def from_json(cls, plan: dict[str, Any]) -> Plan:
        return cls(
            [Source(**source) for source in plan["sources"]],
            [[Part(*part) for part in unit] for unit in plan["units"]],
            plan["split_documents"],
            plan["sample"],
            plan["options"],
        )


def expected_bytes(sources: Sequence[Source]) -> int:
    """About how much text the sources hold."""
    return sum(source.size * (3 if source.format == "parquet" else EXPANSION[source.compression]) for source in sources)
