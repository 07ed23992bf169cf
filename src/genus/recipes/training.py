"""How a recipe is trained: optimiser, schedule, batch. Plain values; the verb `train` acts on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from genus.recipes.parametrisation import Parametrisation, Standard
from genus.spec import Spec


@dataclass(frozen=True)
class Optimizer(Spec):
    """What every optimiser shares; use one of its children. `lr` None = the rule of `adamw_rate` at the model's size."""

    lr: float | None = None
    weight_decay: float = 0.0


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); decay falls on matrices only."""

    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8


@dataclass(frozen=True)
class Muon(Optimizer):
    """Orthogonalised momentum (Jordan et al. 2024) for the hidden matrices; AdamW for tables, read-out and vectors.

    The learning rate is AdamW's: updates are rescaled to AdamW's root mean square (Liu et al. 2025).
    """

    weight_decay: float = 0.1
    momentum: float = 0.95
    beta1: float = 0.9
    beta2: float = 0.95


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent."""

    lr: float | None = 1.0
    momentum: float = 0.0


@dataclass(frozen=True)
class Moment:
    """Where a run stands; `Schedule.moment` makes one.

    Attributes:
        progress: share of the run, 0 to 1. passes: over the data. rise: share of the run that the warm-up takes.
        risen: how many times as long as its warm-up the run has lasted; None = it has none.
    """

    progress: float
    passes: float = 0.0
    rise: float = 0.0
    risen: float | None = None


@dataclass(frozen=True)
class Schedule(Spec):
    """Factor on the learning rate over the run; use one of its children. `warmup`: share of the run it takes to rise."""

    warmup: float = 0.01

    def moment(self, progress: float, passes: float = 0.0, rise: float | None = None) -> Moment:
        """`rise`: share of the run that the warm-up takes, where it differs from the schedule's."""
        rise = self.warmup if rise is None else rise
        return Moment(progress, passes, rise, progress / rise if rise else None)

    def at(self, now: Moment) -> float:
        """The factor: linear up to 1 during the warm-up, then `after` it."""
        return max(now.risen, 0.0) if now.risen is not None and now.risen < 1 else self.after(now)

    def after(self, now: Moment) -> float:
        """The factor once it has risen."""
        return 1.0


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """Constant, then a decay over the last `decay` share of the run, linear down to `final` (Hu et al., Hägele et al. 2024)."""

    decay: float = 0.2
    final: float = 0.0

    def after(self, now: Moment) -> float:
        if now.progress <= 1 - self.decay:
            return 1.0
        return self.final + (1 - self.final) * max(0.0, 1 - now.progress) / self.decay


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine down to `final` (Loshchilov & Hutter 2017)."""

    final: float = 0.1

    def after(self, now: Moment) -> float:
        along = min(1.0, (now.progress - now.rise) / max(1e-9, 1 - now.rise))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * along))


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """Falls as 1 / sqrt(update) from its peak at the end of the warm-up (Vaswani et al. 2017, eq. 3).

    The warm-up is a share of the run, 4,000 of the paper's 100,000 updates; a number of updates can be asked for with `--warmup`.
    """

    warmup: float = 0.04

    def after(self, now: Moment) -> float:
        return 1.0 if now.risen is None else 1 / math.sqrt(now.risen)


@dataclass(frozen=True)
class Constant(Schedule):
    """No change after the warm-up."""


@dataclass(frozen=True)
class EpochDecay(Schedule):
    """Constant for `keep` passes over the data, then multiplied by `factor` after each further pass (Zaremba et al. 2014)."""

    warmup: float = 0.0
    keep: float = 4.0
    factor: float = 0.5

    def after(self, now: Moment) -> float:
        return self.factor ** max(0, math.ceil(math.floor(now.passes) - self.keep + 1e-9))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Training(Spec):
    """Training defaults of a recipe.

    Attributes:
        context: positions per row. batch: rows per step. clip: largest norm of the gradient of the mean loss; 0 = none.
        stream: rows continue from batch to batch and recurrent state is carried (truncated back-propagation through time);
            otherwise rows are windows in random order.
        restart: chance that a row of a stream begins afresh at the border of two batches, as a document would.
        sum_over_time: the loss is a mean over rows but a sum over positions, so that `lr` and `clip` mean what they mean in
            Zaremba's code.
        parametrisation: how start and learning rates follow the width; MuP makes one learning rate serve every width.
    """

    optimizer: Optimizer = AdamW()
    schedule: Schedule = WarmupStableDecay()
    context: int = 256
    batch: int = 32
    clip: float = 1.0
    stream: bool = False
    restart: float = 0.0
    sum_over_time: bool = False
    parametrisation: Parametrisation = Standard()


@dataclass(frozen=True)
class Counting(Spec):
    """A model that is counted, not descended: `memory` bounds the working arrays, in megabytes."""

    memory: int = 1024


def adamw_rate(parameters: int) -> float:
    """Learning rate for Adam by model size: 0.003239 - 0.0001395 ln N (Kaplan et al. 2020, eq. D.1).

    Never below 6e-5, which GPT-3 175B was trained with (Brown et al. 2020, table 2.1): the rule reaches zero at 12 billion.
    """
    return max(0.003239 - 0.0001395 * math.log(max(parameters, 1)), 6e-5)
