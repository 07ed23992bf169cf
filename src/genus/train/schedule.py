"""Factor on the learning rate as a function of progress through the run."""

from __future__ import annotations

import math

from genus.recipes.training import Cosine, EpochDecay, InverseSqrt, Schedule, WarmupStableDecay


def factor(schedule: Schedule, progress: float, epochs: float = 0.0, warmup: float | None = None) -> float:
    """Factor at `progress` (0 to 1) of the run after `epochs` passes over the data.

    Args:
        warmup: share of the run it takes to rise, where it differs from the schedule's.
    """
    rise = schedule.warmup if warmup is None else warmup
    if progress < rise:
        return max(progress / rise, 0.0)
    if isinstance(schedule, WarmupStableDecay):
        if progress <= 1 - schedule.decay:
            return 1.0
        left = max(0.0, 1 - progress) / schedule.decay
        return schedule.final + (1 - schedule.final) * left
    if isinstance(schedule, Cosine):
        along = min(1.0, (progress - rise) / max(1e-9, 1 - rise))
        return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * along))
    if isinstance(schedule, InverseSqrt):
        return math.sqrt(rise / progress) if rise else 1.0
    if isinstance(schedule, EpochDecay):
        return schedule.factor ** max(0, math.ceil(epochs - schedule.keep + 1e-9))  # type: ignore[no-any-return]
    return 1.0
