"""Whether a set of runs can tell what size adds from what data adds, asked before it is paid for.

n runs, K draws of the bootstrap, g exponents tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genus.plan.design.prior import PARAMETERS, PRIORS, Prior

Array = NDArray[np.float64]

COLLINEAR = 0.97  # R² of log tokens on log size above which exponents cannot be told apart
FEWEST = 3  # budgets, sizes and lengths: fewer leave no curvature to see
SAME = 0.1  # relative difference below which two budgets, sizes or lengths count as one
_EXPONENTS = np.geomspace(0.05, 1.8, 41)
_LAW = PARAMETERS.index("bracket")  # the first five: E, a, b, alpha, beta


@dataclass(frozen=True)
class Identifiability:
    """What a set of runs can tell.

    Attributes:
        condition: ratio of the largest to the smallest singular value of the runs' slopes in log E, log A, log B, alpha, beta,
            each column of length 1. A thousandfold ratio loses three digits.
        spread: 90 % interval of each exponent, refitted to simulated runs with the stated noise.
        collinearity: R² of log tokens on log size. budgets, sizes, lengths: how many different ones there are.
        regret, regret_high: relative, of the size that such a refit recommends at the target's compute: mean and 95th percentile.
        error: 90 % interval of the relative error of the predicted loss at the target.
        target: (params, tokens).
        refused: why these runs will not do, with better ones; None = they will.
        better: (params, tokens) of the better ones: at most the same compute. Points of one size come from one trajectory.
    """

    condition: float
    spread: dict[str, tuple[float, float]]
    collinearity: float
    budgets: int
    sizes: int
    lengths: int
    regret: float
    regret_high: float
    error: tuple[float, float]
    target: tuple[float, float]
    refused: str | None = None
    better: tuple[tuple[float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; a number that is not finite is None."""
        value = dict(vars(self))
        value["spread"] = {name: list(ends) for name, ends in self.spread.items()}
        value["error"], value["target"] = list(self.error), list(self.target)
        value["better"] = [list(cell) for cell in self.better]
        value["condition"] = self.condition if np.isfinite(self.condition) else None
        return value


def identifiability(
    params: ArrayLike,
    tokens: ArrayLike,
    loss_law: Prior | None = None,
    target: tuple[float, float] | None = None,
    *,
    noise: float = 0.01,
    repeats: int = 200,
    seed: int = 0,
) -> Identifiability:
    """Judge planned runs, or the rows of a table.

    Args:
        params, tokens: (n,).
        loss_law: what is thought to be true; None = a usual law (`genus.plan.design.prior`). A fitted one: `Prior.from_values`.
        target: (params, tokens) that is to be predicted; None = ten times the largest run's compute, at its proportion.
        noise: relative standard deviation of a loss.

    Raises:
        ValueError: sizes and tokens are not positive numbers, or there are none.
    """
    n, d = (np.asarray(x, np.float64).ravel() for x in np.broadcast_arrays(params, tokens))
    if not len(n) or not np.all(np.isfinite(n) & np.isfinite(d) & (n > 0) & (d > 0)):
        raise ValueError("identifiability needs runs with positive numbers of parameters and tokens")
    law = PRIORS[0] if loss_law is None else loss_law
    if target is None:
        top = int(np.argmax(n * d))
        target = (float(n[top] * 10**0.5), float(d[top] * 10**0.5))
    r2 = collinearity(n, d)
    counts = {"budgets": _different(n * d), "sizes": _different(n), "lengths": _different(d)}
    spread, regrets, errors = _bootstrap(n, d, law, target, noise, repeats, seed)
    reason = _reason(r2, counts)
    better = better_design(n, d) if reason else ()
    if reason:
        sizes, lengths = (", ".join(_short(v) for v in sorted({cell[axis] for cell in better})) for axis in (0, 1))
        reason += f". Better, for no more compute: {sizes} parameters, each at {lengths} tokens, one trajectory per size"
    low, high = np.percentile(errors, [5, 95])
    return Identifiability(
        condition=_condition(law.jacobian(n, d)[:, :_LAW]),
        spread=spread,
        collinearity=r2,
        **counts,
        regret=float(np.mean(regrets)),
        regret_high=float(np.percentile(regrets, 95)),
        error=(float(low), float(high)),
        target=target,
        refused=reason,
        better=better,
    )


def collinearity(params: ArrayLike, tokens: ArrayLike) -> float:
    """R² of log tokens on log size; 1 where one of the two never changes."""
    x, y = np.log(np.asarray(params, np.float64)), np.log(np.asarray(tokens, np.float64))
    x, y = x - x.mean(), y - y.mean()
    xx, yy = float(x @ x), float(y @ y)
    if min(xx, yy) < 1e-12 * len(x):
        return 1.0
    return float((x @ y) ** 2 / (xx * yy))


def better_design(params: ArrayLike, tokens: ArrayLike, sizes: int = 4, lengths: int = 4) -> tuple[tuple[float, float], ...]:
    """Every size with every length over the span of the given runs, for no more than their compute.

    Lengths are a factor of 2 or more apart, and those of one size cost one trajectory (`plan.machine.cost.trajectory_tokens`).
    """
    n, d = np.asarray(params, np.float64), np.asarray(tokens, np.float64)
    span = max(n.max() / n.min(), 8.0)
    cut = np.geomspace(n.max() / span, n.max(), sizes)
    steps = np.geomspace(1 / max(d.max() / d.min(), 2.0 ** (lengths - 1)), 1, lengths)
    longest = float(np.sum(n * d) / (np.sum(cut) * (0.8 + 0.2 * np.sum(steps))))
    return tuple((float(size), float(length)) for size in cut for length in longest * steps)


def fit_many(params: Array, tokens: Array, losses: Array, weights: Array) -> Array:
    """(K, 5): E, A, B, alpha, beta of the weighted least-squares law for each row of `losses` (K, n).

    A and B belong to sizes and tokens divided by their geometric means. For each pair of exponents on a grid the three
    coefficients are the best non-negative ones: the best of the least-squares solutions on subsets that come out non-negative.
    """
    x, y = (np.log(v) - np.log(v).mean() for v in (params, tokens))
    alpha, beta = (v.ravel() for v in np.meshgrid(_EXPONENTS, _EXPONENTS, indexing="ij"))
    columns = np.stack([np.ones((len(alpha), len(x))), np.exp(-alpha[:, None] * x), np.exp(-beta[:, None] * y)], 1) * weights
    target = losses * weights
    gram = columns @ columns.transpose(0, 2, 1)  # (g, 3, 3)
    moment = columns @ target.T  # (g, 3, K)
    draws, lowest = np.arange(len(losses)), np.full(len(losses), np.inf)
    fits = np.zeros((len(losses), 5))
    for subset in (list(c) for size in (1, 2, 3) for c in combinations(range(3), size)):
        sub = gram[:, subset][:, :, subset]
        ridge = 1e-11 * np.trace(sub, axis1=1, axis2=2)[:, None, None] * np.eye(len(subset))
        found = np.linalg.solve(sub + ridge, moment[:, subset])  # (g, subset, K)
        left = np.where(found.min(1) >= 0, -np.sum(found * moment[:, subset], 1), np.inf)  # sum of squares, up to a constant
        row = left.argmin(0)
        better = left[row, draws] < lowest
        lowest = np.where(better, left[row, draws], lowest)
        new = np.zeros_like(fits)
        new[:, subset], new[:, 3], new[:, 4] = found[row, :, draws], alpha[row], beta[row]
        fits[better] = new[better]
    return fits


def _bootstrap(
    n: Array, d: Array, law: Prior, target: tuple[float, float], noise: float, repeats: int, seed: int
) -> tuple[dict[str, tuple[float, float]], Array, Array]:
    """Spread of the exponents; (K,) relative regrets and (K,) relative errors of laws refitted to simulated runs."""
    true = law.predict(n, d)
    rng = np.random.default_rng(seed)
    losses = true * np.exp(noise * rng.standard_normal((repeats, len(n))))
    fits = fit_many(n, d, losses, 1 / true)
    ends = np.percentile(fits[:, 3:], [5, 95], axis=0)
    spread = {name: (float(ends[0, i]), float(ends[1, i])) for i, name in enumerate(("alpha", "beta"))}
    sizes = target[0] * np.geomspace(1 / 32, 32, 101)
    lengths = target[0] * target[1] / sizes
    centre = np.exp(np.log(n).mean()), np.exp(np.log(d).mean())
    real = law.predict(sizes, lengths)
    chosen = _law(fits, sizes / centre[0], lengths / centre[1]).argmin(1)
    errors = _law(fits, np.array([target[0] / centre[0]]), np.array([target[1] / centre[1]]))[:, 0] / law.predict(*target) - 1
    return spread, real[chosen] / real.min() - 1, errors


def _law(fits: Array, sizes: Array, lengths: Array) -> Array:
    """(K, len(sizes)) losses."""
    e, a, b, alpha, beta = (fits[:, i, None] for i in range(5))
    result: Array = e + a * sizes**-alpha + b * lengths**-beta
    return result


def _condition(slopes: Array) -> float:
    norms = np.linalg.norm(slopes, axis=0)
    if len(slopes) < slopes.shape[1] or np.any(norms < 1e-12):
        return float("inf")
    values = np.linalg.svd(slopes / norms, compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 1e-15 * values[0] else float("inf")


def _different(values: Array) -> int:
    """How many values there are, those within SAME of the smallest of their group counted once."""
    count, first = 0, 0.0
    for value in np.sort(values):
        if value > first * (1 + SAME):
            count, first = count + 1, value
    return count


def _reason(r2: float, counts: dict[str, int]) -> str | None:
    return next(_reasons(r2, counts), None)


def _reasons(r2: float, counts: dict[str, int]) -> Iterator[str]:
    for name, count in counts.items():
        if count < FEWEST:
            unit = {"budgets": "budget", "sizes": "size", "lengths": "number of tokens"}[name]
            plural = "" if count == 1 else "s"
            what = "numbers of tokens" if name == "lengths" and plural else unit + plural
            yield f"the runs have {count} different {what}, and a law with a floor and two exponents needs {FEWEST}"
    if r2 > COLLINEAR:
        yield (
            f"tokens follow size (R² of log tokens on log size is {r2:.3f}, more than {COLLINEAR}), "
            "so what size adds and what data adds cannot be told apart"
        )


def _short(value: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit * 0.9995:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"
