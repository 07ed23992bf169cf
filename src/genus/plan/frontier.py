"""The best size and number of tokens for a budget, and the loss they reach.

Legend: K joint draws of the loss surface, S sizes of the ladder, B budgets.
"""

from __future__ import annotations

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
