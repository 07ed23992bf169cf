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

    def check(self, loss: float, norm: float) -> str | None:
        """None to accept the update, else the reason to refuse it.

        Raises:
            FloatingPointError: too many refusals in a row.
        """
        reason = None
        if not (math.isfinite(loss) and math.isfinite(norm)):
            reason = f"loss {loss} and gradient norm {norm}: not a number"
        elif self.seen >= SETTLE and norm > SPIKE * math.exp(self.average):
            if self.refused >= PERSISTS:
                self.average = math.log(norm)
            else:
                reason = f"gradient norm {norm:.3g} is {norm / math.exp(self.average):.0f} times the usual"
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
