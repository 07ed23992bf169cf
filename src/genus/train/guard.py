"""Refuse updates that would wreck a run: gradients that are not numbers, or far outside what the run has seen.

Only what passes is an outlier. Gradients that stay large while nothing is changed come from where the weights are by now, as when
a model that knew a few rows by heart loses them; refusing them for ever would end a run that clipping keeps safe.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

SPIKE = 20.0  # times the usual gradient norm
MEMORY = 0.98  # of the running average of log norms
SETTLE = 50  # steps before the average is trusted
PERSISTS = 5  # large norms in a row after which they are the usual ones
GIVE_UP = 20  # refused updates in a row


@dataclass
class Guard:
    """Keeps a running average of the log gradient norm.

    Attributes:
        average: of log norms. seen: accepted steps. refused: in a row. total: refused over the run.
    """

    average: float = 0.0
    seen: int = 0
    refused: int = 0
    total: int = 0

    @property
    def limit(self) -> float:
        """The largest gradient norm that is accepted next."""
        return math.inf if self.refused >= PERSISTS else self._outlier

    @property
    def _outlier(self) -> float:
        """A norm above it is far outside what the run has seen."""
        return SPIKE * math.exp(self.average) if self.seen >= SETTLE else math.inf

    def check(self, loss: float, norm: float) -> str | None:
        """None to accept the update, else the reason to refuse it.

        Raises:
            FloatingPointError: too many refusals in a row.
        """
        reason = None
        if not (math.isfinite(loss) and math.isfinite(norm)):
            reason = f"loss {loss} and gradient norm {norm}: not a number"
        elif norm > self.limit:
            reason = f"gradient norm {norm:.3g} is {norm / math.exp(self.average):.0f} times the usual"
        elif norm > self._outlier:
            self.average = math.log(norm)
        if reason is None:
            weight = max(1 - MEMORY, 1 / (self.seen + 1))
            self.average += weight * (math.log(max(norm, 1e-12)) - self.average)
            self.seen, self.refused = self.seen + 1, 0
            return None
        self.refused += 1
        self.total += 1
        if self.refused >= GIVE_UP:
            raise FloatingPointError(
                f"{GIVE_UP} updates in a row were refused ({reason}); the last good weights are in the newest checkpoint. "
                "Train again with a lower --lr, or with --dtype fp32"
            )
        return reason

    def state(self) -> dict[str, float]:
        return asdict(self)
