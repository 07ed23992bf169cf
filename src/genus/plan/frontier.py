"""The best size and number of tokens for a budget, the loss they reach, and where two branches' frontiers cross.

Legend: K joint draws of the loss surface, S sizes of the ladder, B budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genus.plan.machine.cost import Cost, affordable

if TYPE_CHECKING:
    from genus.plan.forecast.forecaster import Band

Array = NDArray[np.float64]

INTERVAL = (5.0, 95.0)  # percentiles of every band


class Surface(Protocol):
    """What is known about a branch's loss: `genus.plan.forecast.forecaster.Forecast`."""

    def predict(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Band: ...

    def draws(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Array:
        """(K, ...) losses; one draw is one whole surface."""


@dataclass(frozen=True)
class Limits:
    """What a model may cost beside its budget. None = no limit.

    Attributes:
        memory: bytes while training. decode: seconds per generated token.
        unique: tokens of the corpus; more than that are repeats. passes: most passes over the corpus.
    """

    memory: float | None = None
    decode: float | None = None
    unique: float | None = None
    passes: float | None = None

    @property
    def most_tokens(self) -> float:
        return np.inf if self.unique is None or self.passes is None else self.unique * self.passes

    def sizes(self, cost: Cost) -> Array:
        """(S,) the sizes of the ladder that keep within memory and decoding time.

        Raises:
            ValueError: none does.
        """
        sizes = np.asarray(cost.sizes, np.float64)
        memory, decode = cost.memory(sizes), cost.decode_seconds(sizes)
        fits = np.ones(len(sizes), bool)
        if self.memory is not None:
            fits &= memory <= self.memory
        if self.decode is not None:
            fits &= decode <= self.decode
        if not fits.any():
            need = f"{memory.min():.3g} bytes and {decode.min():.3g} s per generated token"
            raise ValueError(f"no size of the ladder keeps within the limits: the smallest needs {need}; allow more")
        return sizes[fits]


@dataclass(frozen=True)
class Optimum:
    """The recommended model for one budget.

    Attributes:
        params, tokens: of the model. band: its loss. draws: (K,) joint draws of its loss.
        reachable: (K,) loss of the best size under each draw. params_low, params_high: interval of the best size.
        limited: what keeps it from being better at this budget: "memory", "decode", "data" (passes over the corpus are used up),
            "smallest size", "largest size" (of the ladder).
    """

    budget: float
    by: str
    params: float
    tokens: float
    band: Band
    draws: Array
    reachable: Array
    params_low: float
    params_high: float
    limited: tuple[str, ...] = ()

    @property
    def regret(self) -> float:
        """Expected loss of the recommended size minus that of the best one."""
        return float(np.mean(self.draws - self.reachable))

    @property
    def regret_high(self) -> float:
        return float(np.percentile(self.draws - self.reachable, INTERVAL[1]))


@dataclass(frozen=True)
class Frontier:
    """Recommended models over budgets. Arrays are (B,); a budget too small for any size has NaN.

    Attributes:
        budgets: in units of `by`: seconds, flops; memory or decode for a trade-off at one budget.
        loss, low, high: the forecast's band at the recommended model.
        draws: (K, B) its loss; reachable: (K, B) loss of the best size under each draw.
        params_low, params_high: interval of the best size.
    """

    budgets: Array
    by: str
    params: Array
    tokens: Array
    loss: Array
    low: Array
    high: Array
    draws: Array
    reachable: Array
    params_low: Array
    params_high: Array


def best(
    forecast: Surface,
    cost: Cost,
    budget: float,
    by: str = "seconds",
    *,
    memory: float | None = None,
    decode: float | None = None,
    unique: float | None = None,
    passes: float | None = None,
) -> Optimum:
    """The size and tokens with the lowest predicted loss for a budget. Limits as in `Limits`.

    Raises:
        ValueError: no size keeps within the limits, or the budget does not train the smallest one on a single token.
    """
    limits = Limits(memory, decode, unique, passes)
    f = _frontier(forecast, cost, np.array([budget], np.float64), by, limits)
    if not np.isfinite(f.loss[0]):
        raise ValueError(f"a budget of {budget:.3g} {by} does not train the smallest model on one token; allow more")
    band = _band(forecast, float(f.params[0]), float(f.tokens[0]), unique)
    chosen = (float(f.params[0]), float(f.tokens[0]))
    reasons = _limited(forecast, cost, budget, by, limits, chosen)
    return Optimum(
        budget=float(budget),
        by=by,
        params=chosen[0],
        tokens=chosen[1],
        band=band,
        draws=f.draws[:, 0],
        reachable=f.reachable[:, 0],
        params_low=float(f.params_low[0]),
        params_high=float(f.params_high[0]),
        limited=reasons,
    )


def frontier(
    forecast: Surface,
    cost: Cost,
    budgets: ArrayLike,
    by: str = "seconds",
    *,
    memory: float | None = None,
    decode: float | None = None,
    unique: float | None = None,
    passes: float | None = None,
) -> Frontier:
    """`best` over rising budgets."""
    return _frontier(forecast, cost, np.sort(np.asarray(budgets, np.float64)), by, Limits(memory, decode, unique, passes))


def tradeoff(
    forecast: Surface,
    cost: Cost,
    budget: float,
    by: str = "seconds",
    against: str = "memory",
    *,
    unique: float | None = None,
    passes: float | None = None,
) -> Frontier:
    """Loss against a bound on memory or on decoding time, for one budget: its `budgets` are the bounds, one for each size.

    Raises:
        ValueError: `against` is neither "memory" nor "decode".
    """
    if against not in ("memory", "decode"):
        raise ValueError(f"a budget is traded against memory or decode, not {against!r}")
    sizes = np.asarray(cost.sizes, np.float64)
    needs = cost.memory(sizes) if against == "memory" else cost.decode_seconds(sizes)
    bounds = np.unique(needs)
    grid = _Grid(forecast, cost, sizes, np.array([budget], np.float64), by, Limits(unique=unique, passes=passes))
    return grid.choose(bounds, against, needs[:, None] <= bounds)


def regret(
    forecast: Surface,
    cost: Cost,
    params: float,
    budget: float,
    by: str = "seconds",
    *,
    unique: float | None = None,
    passes: float | None = None,
) -> Array:
    """(K,) loss at size `params` minus the loss at the best size for the budget, never below 0."""
    limits = Limits(unique=unique, passes=passes)
    sizes = np.append(np.asarray(cost.sizes, np.float64), params)
    losses = _Grid(forecast, cost, sizes, np.array([budget], np.float64), by, limits).draws[:, :, 0]
    result: Array = losses[:, -1] - losses.min(axis=1)
    return result


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


class _Grid:
    """Losses of every size at every budget."""

    def __init__(self, forecast: Surface, cost: Cost, sizes: Array, budgets: Array, by: str, limits: Limits) -> None:
        if np.any(~(budgets > 0)):
            raise ValueError("budgets must be positive")
        self.sizes, self.budgets, self.by = sizes, budgets, by
        self.tokens = np.minimum(affordable(cost, sizes[:, None], budgets, by), limits.most_tokens)  # (S, B)
        self.trained = self.tokens >= 1
        tokens = np.maximum(self.tokens, 1)
        params = np.broadcast_to(sizes[:, None], tokens.shape)
        more = {} if limits.unique is None else {"unique": np.minimum(limits.unique, tokens)}
        self.band = forecast.predict(params, tokens, **more)
        self.draws = np.where(self.trained, forecast.draws(params, tokens, **more), np.inf)  # (K, S, B)

    def choose(self, budgets: Array, by: str, allowed: NDArray[np.bool_]) -> Frontier:
        """The best allowed size; `allowed` (S, B or more columns) widens a single budget to several bounds."""
        allowed = allowed & self.trained
        columns = allowed.shape[1]
        loss = np.where(allowed, np.broadcast_to(self.band.loss, allowed.shape), np.inf)
        row = loss.argmin(0)
        source = np.arange(columns) if self.tokens.shape[1] == columns else np.zeros(columns, int)
        draws = self.draws if self.tokens.shape[1] == columns else np.repeat(self.draws, columns, axis=2)
        draws = np.where(allowed, draws, np.inf)
        none = ~allowed.any(0)
        best_row = draws.argmin(1)  # (K, B)
        sizes = np.percentile(self.sizes[best_row], INTERVAL, axis=0, method="nearest")

        def pick(values: ArrayLike) -> Array:
            return np.where(none, np.nan, np.broadcast_to(values, self.tokens.shape)[row, source])

        return Frontier(
            budgets,
            by,
            np.where(none, np.nan, self.sizes[row]),
            pick(self.tokens),
            pick(self.band.loss),
            pick(self.band.low),
            pick(self.band.high),
            np.where(none, np.nan, draws[:, row, np.arange(columns)]),
            np.where(none, np.nan, draws.min(1)),
            np.where(none, np.nan, sizes[0]),
            np.where(none, np.nan, sizes[1]),
        )


def _frontier(forecast: Surface, cost: Cost, budgets: Array, by: str, limits: Limits) -> Frontier:
    grid = _Grid(forecast, cost, limits.sizes(cost), budgets, by, limits)
    return grid.choose(budgets, by, grid.trained)


def _band(forecast: Surface, params: float, tokens: float, unique: float | None) -> Band:
    return forecast.predict(params, tokens) if unique is None else forecast.predict(params, tokens, unique=min(unique, tokens))


def _limited(
    forecast: Surface, cost: Cost, budget: float, by: str, limits: Limits, chosen: tuple[float, float]
) -> tuple[str, ...]:
    reasons = []
    sizes = np.asarray(cost.sizes, np.float64)
    for name, word in (("memory", "memory"), ("decode", "decode"), ("passes", "data")):
        if getattr(limits, name) is not None:
            free = _frontier(forecast, cost, np.array([budget], np.float64), by, replace(limits, **{name: None}))
            if (free.params[0], free.tokens[0]) != chosen:
                reasons.append(word)
    if len(sizes) > 1 and chosen[0] in (sizes[0], sizes[-1]):
        reasons.append("smallest size" if chosen[0] == sizes[0] else "largest size")
    return tuple(reasons)


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
