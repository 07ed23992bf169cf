"""Whether a quantity changes sharply: the test that every probe applies to its continuous metric, and to that one alone.

Accuracy may jump while the model improves smoothly, because it counts only what is wholly right (Schaeffer, Miranda & Koyejo,
"Are Emergent Abilities of Large Language Models a Mirage?", NeurIPS 2023). So a probe is called sharp only where the
log-probability, or the squared error, is.

The measure is the largest share of the whole change that falls within one doubling of x (updates, shots, positions, sizes):

    curve                                    largest share within a doubling
    straight in log x over d doublings       1 / d
    exp(-x / tau), wholly seen               1/4, for every tau
    x ** -a, wholly seen                     1 - 2 ** -a: 0.19 at a = 0.3, 0.50 at a = 1
    a step                                   1

From SHARP on the change is called sharp: more than any of the smooth ones. Between two points the curve is taken as straight in
log x, which can only make a change look slower. The verdict is "unresolved" where two points stand too far apart to decide, and
where the change is under way at the first point: a steep power law looks like a step there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

SHARP = 0.6  # share of the whole change within one doubling
FEWEST, NARROWEST = 5, 3.0  # points, and doublings between the first and the last, from which a curve is judged
MOVED = 0.05  # share of its whole change from which a metric is said to move

Verdict = Literal["sharp", "smooth", "flat", "unresolved"]


@dataclass(frozen=True)
class Sharpness:
    """The verdict on one curve.

    Attributes:
        share: largest share of the whole change within one doubling of x; None where there is none to speak of.
        at: x at the beginning of that doubling. reason: one line.
    """

    verdict: Verdict
    share: float | None
    at: float | None
    reason: str


def sharpness(x: Sequence[float], y: Sequence[float], least: float = 0.0) -> Sharpness:
    """Judge a continuous metric `y` along `x` (positive, increasing).

    Args:
        least: a change of y smaller than this is none ("flat").

    Raises:
        ValueError: x is not positive and increasing, or y is not finite.
    """
    place, value = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(place) != len(value) or not (place > 0).all() or not (np.diff(place) > 0).all():
        raise ValueError("x must be positive and increasing, with as many values as y")
    log = np.log2(place)
    if not np.isfinite(value).all():
        raise ValueError("y holds values that are not finite")
    whole = float(np.ptp(value))
    if whole <= least or whole == 0.0:
        return Sharpness("flat", None, None, f"it changes by {whole:.3g} in all, and less than {least:.3g} is none")
    if len(log) < FEWEST or log[-1] - log[0] < NARROWEST:
        reason = f"{len(log)} points over {2 ** (log[-1] - log[0]) if len(log) else 0:.3g}x: at least {FEWEST} over 8x are needed"
        return Sharpness("unresolved", None, None, reason)
    share, at = _steepest(log, value, whole)
    if share >= SHARP and at <= place[0] * 1.001:
        reason = f"{share:.0%} of the change lies within the first doubling: what was before {place[0]:.3g} is not known"
        return Sharpness("unresolved", share, at, reason)
    if share >= SHARP:
        return Sharpness("sharp", share, at, f"{share:.0%} of the change within a doubling, from {at:.3g} on")
    gap = int(np.argmax(np.abs(np.diff(value))))
    alone = abs(value[gap + 1] - value[gap]) / whole
    if alone >= SHARP and log[gap + 1] - log[gap] > 1.0:
        reason = f"{alone:.0%} of the change lies between {2 ** log[gap]:.3g} and {2 ** log[gap + 1]:.3g}, with nothing between"
        return Sharpness("unresolved", share, at, reason)
    return Sharpness("smooth", share, at, f"at most {share:.0%} of the change within a doubling (sharp from {SHARP:.0%})")


def _steepest(log: np.ndarray, value: np.ndarray, whole: float) -> tuple[float, float]:
    """Largest change within one doubling as a share of the whole, and where it begins.

    The curve is straight between points, so the largest change begins or ends at one.
    """
    starts = np.unique(np.clip(np.concatenate([log, log - 1.0]), log[0], max(log[0], log[-1] - 1.0)))
    change = np.abs(np.interp(starts + 1.0, log, value) - np.interp(starts, log, value))
    best = int(np.argmax(change))
    return float(change[best] / whole), float(2 ** starts[best])


def hidden_progress(continuous: Sequence[float], discontinuous: Sequence[float]) -> float | None:
    """Share of the continuous metric's change that was done before the discontinuous one moved.

    None where either does not change. Near 0: both tell the same. Near 1: the discontinuous one hid it.
    """
    smooth, jumpy = np.asarray(continuous, np.float64), np.asarray(discontinuous, np.float64)
    whole, jump = smooth[-1] - smooth[0], jumpy[-1] - jumpy[0]
    if whole == 0.0 or jump == 0.0 or not math.isfinite(whole):
        return None
    moved = np.flatnonzero((jumpy - jumpy[0]) / jump > MOVED)
    before = max(0, int(moved[0]) - 1)
    return float(np.clip((smooth[before] - smooth[0]) / whole, 0.0, 1.0))
