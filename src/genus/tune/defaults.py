"""How long and how fast to tune where the user does not say: derived in the open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from genus.parts.mix import ScalarMix
from genus.recipes.training import adamw_rate
from genus.tune.base import Base
from genus.tune.counted import counted
from genus.tune.methods import Method
from genus.tune.options import TuneOptions

UPDATES, UPDATES_FRESH = 300, 1000  # that a fit should have: few updates make tuning unstable (Mosbach et al. 2021)
PASSES, PASSES_FRESH = (3.0, 20.0), (5.0, 40.0)  # over the rows, at least and at most
TUNED_RATE = 1 / 12  # of the rate that pre-training would use: 5.5e-5 for the size of BERT-base, in the range of its paper
DROPOUT = 0.1
MIXING_RATE = 0.03
"""Of the scores of layers in a mixture (Peters et al. 2018, equation 1). Adam moves a score by about the rate in an update, and a
share is decided by a few units, whatever the size of the model: at the usual 1e-3 after thousands of updates; a fit here has
hundreds."""
BATCHES = ((100, 8), (5_000, 16), (math.inf, 32))  # rows of an update, by the number of rows


@dataclass(frozen=True)
class Pace:
    """How a fit runs. batch: rows of an update. updates: in all. lr: peak learning rate. epochs: passes over the rows."""

    batch: int
    updates: int
    lr: float
    epochs: float
    dropout: float

    def __str__(self) -> str:
        passes = f"{self.epochs:.3g} {'pass' if self.epochs == 1 else 'passes'}"
        return f"{counted(self.updates, 'update')} of {counted(self.batch, 'row')} ({passes}), learning rate {self.lr:.2e}"


def pace(base: Base, method: Method, options: TuneOptions, rows: int, epochs: float | None = None) -> Pace:
    """The pace of a fit on `rows` examples.

    Args:
        epochs: passes, where earlier fits have shown how many are best.
    """
    fresh = base.weights is None
    batch = min(rows, options.batch or next(b for most, b in BATCHES if rows <= most))
    low, high = PASSES_FRESH if fresh else PASSES
    wanted = (UPDATES_FRESH if fresh else UPDATES) * batch / rows
    passes = epochs or options.epochs or min(high, max(low, math.ceil(wanted)))
    factor = method.rate * (1.0 if fresh else TUNED_RATE * (options.rate or 1.0))
    lr = options.lr or adamw_rate(base.recipe.parameters_total) * factor
    dropout = DROPOUT if options.dropout is None else options.dropout
    return Pace(batch, max(1, round(passes * rows / batch)), lr, passes, dropout)


def mixing_rates(model: nn.Module, lr: float) -> dict[str, float]:
    """Factors on the rate `lr` by which the shares of layers, where a read-out mixes them, learn at `MIXING_RATE`."""
    mixtures = (name for name, module in model.named_modules() if isinstance(module, ScalarMix.Module))
    return {f"{name}.weights": MIXING_RATE / lr for name in mixtures}
