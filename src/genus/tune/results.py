"""Row: one line of the table in which the ways of using the labels stand side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Row:
    """What one way of using the labels reached.

    Attributes:
        name: how the table calls it. scores: by name, one dict for each split or seed that was measured.
        labels: labelled rows that it learnt from, on average. seconds: of one fit. trainable: parameters that learnt.
        note: one line about how it was made. memory: bytes of the weights, and of gradients and averages of those that learn.
    """

    name: str
    scores: tuple[dict[str, float], ...]
    labels: float = 0.0
    seconds: float = 0.0
    trainable: int = 0
    note: str = ""
    memory: float = 0.0

    def mean(self, score: str) -> float:
        values = self.values(score)
        return sum(values) / len(values) if values else math.nan

    def spread(self, score: str) -> float:
        """Standard deviation over splits or seeds; NaN for a single one."""
        values = self.values(score)
        if len(values) < 2:
            return math.nan
        mean = self.mean(score)
        return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))

    def values(self, score: str) -> list[float]:
        return [s[score] for s in self.scores if score in s]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"scores": list(self.scores)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Row:
        return cls(**{**value, "scores": tuple(value["scores"])})


def merge(rows: Iterable[Row]) -> list[Row]:
    """Rows of the same name, measured on several splits, as one row each."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    merged = []
    for same in found.values():
        scores = tuple(score for row in same for score in row.scores)
        seconds, labels = (sum(getattr(row, k) for row in same) / len(same) for k in ("seconds", "labels"))
        merged.append(replace(same[0], scores=scores, seconds=seconds, labels=labels))
    return merged


def text(row: Row, score: str) -> str:
    """`0.912 ± 0.013`."""
    mean, spread = row.mean(score), row.spread(score)
    if math.isnan(mean):
        return "–"
    return f"{mean:.3f}" if math.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"
