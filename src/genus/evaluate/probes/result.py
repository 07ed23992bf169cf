"""What a probe found: a discontinuous metric, a continuous one, and both along something."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from genus.evaluate.probes.sharpness import Sharpness, hidden_progress, sharpness

Kind = Literal["read", "train"]

NOISE = 4.0  # standard errors that the highest and the lowest of a dozen equal points are rarely apart


@dataclass(frozen=True)
class Curve:
    """A discontinuous and a continuous metric along x.

    Attributes:
        along: what x counts. score, loss: one value for each x; score_name, loss_name: what they are.
        verdict: of the continuous metric (the loss). hidden: share of the loss's change that was done before the score moved.
    """

    along: str
    x: tuple[float, ...]
    score_name: str
    score: tuple[float, ...]
    loss_name: str
    loss: tuple[float, ...]
    verdict: Sharpness
    hidden: float | None

    @classmethod
    def judge(
        cls,
        along: str,
        x: Sequence[float],
        score_name: str,
        score: Sequence[float],
        loss_name: str,
        loss: Sequence[float],
        least: float = 0.05,
        error: float = 0.0,
        shift: float = 0.0,
    ) -> Curve:
        """A curve with its verdict.

        Args:
            least: change of the loss that counts as one; never less than NOISE times its largest standard `error`.
            shift: added to x before its logarithm is taken (1 where x begins at 0).
        """
        values = [float(v) for v in loss]
        points = [float(v) for v in score]
        verdict = sharpness([v + shift for v in x], values, max(least, NOISE * error))
        hidden = None if verdict.verdict == "flat" else hidden_progress(values, points)
        return cls(along, tuple(map(float, x)), score_name, tuple(points), loss_name, tuple(values), verdict, hidden)


@dataclass(frozen=True)
class ProbeResult:
    """What one probe found on one model or architecture.

    Attributes:
        kind: "read" = a trained model was only read; "train" = the architecture was trained from nothing on a synthetic task.
        subject: what was probed. score: discontinuous, higher is better. loss: continuous, positive, lower is better: rank by it.
        figures: further numbers by name. intervals: 95 %, of score, loss or a figure. about: how it was done.
    """

    probe: str
    kind: Kind
    subject: str
    score: float
    score_name: str
    loss: float
    loss_name: str
    figures: dict[str, float]
    curves: tuple[Curve, ...]
    about: str
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return dataclasses.asdict(self)
