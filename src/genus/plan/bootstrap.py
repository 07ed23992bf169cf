"""How much a law would differ had other runs been made: the Bayesian bootstrap (Rubin 1981) by run.

Points of one trajectory are correlated, so a run is drawn as a whole. Weights from an exponential distribution take the place
of drawing with replacement, which with few runs would often leave a single size, on which nothing can be fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from genus.plan.fit import Law, Residual, Ties, fit, fits
from genus.plan.forms import Form
from genus.plan.table import Runs


def bootstrap(
    runs: Runs,
    form: str | Form = "chinchilla",
    repeats: int = 100,
    seed: int = 0,
    weights: ArrayLike | None = None,
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    tie: Ties = (),
    residual: Residual = "log",
) -> list[Law]:
    """Laws of tables in which each run counts by a random weight of mean 1; arguments as of `fit`.

    Each is descended to from the valleys of the whole table, so it may end in another one.

    Raises:
        ValueError: as `fit`; or most of the repeats could not be fitted.
    """
    rng = np.random.default_rng(seed)
    valleys = fits(runs, form, weights, delta, fixed, tie, residual)
    own = np.ones(len(runs)) if weights is None else np.asarray(weights, np.float64)
    trajectory = runs.trajectory
    laws, reason = [], ""
    for _ in range(repeats):
        draw = rng.exponential(size=trajectory.max() + 1)
        draw *= len(draw) / draw.sum()
        try:
            laws.append(fit(runs, form, own * draw[trajectory], delta, fixed, tie, residual, start=valleys))
        except ValueError as error:
            reason = str(error)
    if len(laws) < repeats / 2:
        raise ValueError(f"{repeats - len(laws)} of {repeats} resampled tables could not be fitted: {reason}")
    return laws


def interval(laws: Sequence[Law], parameter: str, level: float = 0.9) -> tuple[float, float]:
    """Between which a share `level` of the laws have a parameter."""
    values = [law.values[parameter] for law in laws]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
