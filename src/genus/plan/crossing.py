"""Branches against each other: from which budget on one is the better one, and how probably it is at a budget.

Legend: K joint draws of the loss surface, B budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genus.plan.frontier import INTERVAL, Frontier

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Crossing:
    """The budget from which one branch is the better one for good.

    Attributes:
        low, middle, high: of the budget, over the draws that cross at all within reach.
        probability: that they cross, in this direction, within reach. reach: the largest budget looked at.
        overtakes: True when the second branch overtakes the first as budgets grow, False when the first overtakes the second.
    """

    low: float
    middle: float
    high: float
    probability: float
    reach: float
    overtakes: bool
    by: str = "seconds"


def crossing(a: Frontier, b: Frontier, reach: float | None = None, least: float = 0.1) -> Crossing | None:
    """Where two frontiers cross; None = never within reach.

    Each branch is at its own best size in every draw, so that what crosses is what can be reached, not what is recommended.

    Args:
        reach: largest budget of interest; None = the largest that both frontiers have.
        least: a crossing less probable than this is none.
    """
    if a.by != b.by:
        raise ValueError(f"one frontier counts {a.by}, the other {b.by}; compute both in the same unit")
    grid, first, second = _shared(a, b, reach)
    if len(grid) < 2:
        return None
    gap = second - first  # (K, B); below 0 where the second branch is the better one
    flips = (gap[:, 1:] < 0) != (gap[:, :-1] < 0)
    last = np.where(flips.any(1), flips.shape[1] - 1 - np.argmax(flips[:, ::-1], axis=1), -1)
    crosses = (last >= 0) & ((gap[:, 0] < 0) != (gap[:, -1] < 0))
    ahead = gap[:, -1] < 0
    overtakes = bool(np.sum(crosses & ahead) >= np.sum(crosses & ~ahead))
    counted = np.flatnonzero(crosses & (ahead == overtakes))
    probability = len(counted) / len(gap)
    if probability < max(least, 1e-9):
        return None
    at = last[counted]
    left, right = gap[counted, at], gap[counted, at + 1]
    x = np.log(grid[at]) + np.log(grid[at + 1] / grid[at]) * left / (left - right)
    low, middle, high = np.exp(np.percentile(x, [INTERVAL[0], 50, INTERVAL[1]]))
    return Crossing(float(low), float(middle), float(high), float(probability), float(grid[-1]), overtakes, a.by)


def win_probability(frontiers: Sequence[Frontier], budget: float) -> Array:
    """(branches,) probability that a branch's recommended model has the lowest loss at a budget.

    A branch whose frontier does not contain the budget (too small for it, or not computed) cannot win.
    """
    draws = [_at(f, f.draws, np.array([budget]))[:, 0] for f in frontiers]
    most = max(len(d) for d in draws)
    losses = np.stack([_shuffled(d, most, i) for i, d in enumerate(draws)])
    losses = np.where(np.isfinite(losses), losses, np.inf)
    if not np.isfinite(losses).any():
        raise ValueError(f"no frontier contains a budget of {budget:.3g}")
    return np.bincount(losses.argmin(0), minlength=len(draws)) / most


def _shared(a: Frontier, b: Frontier, reach: float | None) -> tuple[Array, Array, Array]:
    """Budgets that both frontiers have, and (K, B) reachable losses of each on them."""
    usable = [f.budgets[np.isfinite(f.loss)] for f in (a, b)]
    if not all(len(u) for u in usable):
        return np.empty(0), np.empty((0, 0)), np.empty((0, 0))
    low, high = max(u.min() for u in usable), min(u.max() for u in usable)
    high = high if reach is None else min(high, reach)
    grid = np.unique(np.concatenate(usable))
    grid = np.unique(np.append(grid[(grid >= low) & (grid <= high)], high if high >= low else []))
    most = max(len(a.reachable), len(b.reachable))
    first, second = (_shuffled(_at(f, f.reachable, grid), most, i) for i, f in enumerate((a, b)))
    return grid, first, second


def _at(f: Frontier, draws: Array, budgets: Array) -> Array:
    """(K, len(budgets)) draws, linear in the logarithm of the budget; NaN outside the frontier."""
    usable = np.isfinite(f.loss)
    if not usable.any():
        return np.full((len(draws), len(budgets)), np.nan)
    x, y, at = np.log(f.budgets[usable]), draws[:, usable], np.log(budgets)
    right = np.clip(np.searchsorted(x, at), min(1, len(x) - 1), len(x) - 1)
    left = np.maximum(right - 1, 0)
    share = np.where(right > left, (at - x[left]) / np.where(right > left, x[right] - x[left], 1), 0)
    inside = (at >= x[0] - 1e-9) & (at <= x[-1] + 1e-9)
    return np.where(inside, y[:, left] * (1 - share) + y[:, right] * share, np.nan)


def _shuffled(draws: Array, count: int, seed: int) -> Array:
    """`count` draws in an order of their own: two branches' forecasts may come from one seed, and are not paired."""
    order = np.random.default_rng(seed).permutation(len(draws))
    return draws[order[np.arange(count) % len(draws)]]
