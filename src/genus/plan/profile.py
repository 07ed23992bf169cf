"""How well one parameter of a law is determined: the best objective at each of its values.

A point estimate hides a flat objective. On the runs of Muennighoff 2023 the published "R_D = 15.4" fits no better than 8 or 1000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genus.plan.fit import Law, Residual, Ties, fit, fits
from genus.plan.forms import Form, get
from genus.plan.table import Array, Runs

LEAST = 0.01  # share by which the objective may always rise
CHI2 = 3.841  # 95 % of a chi-squared variable with one degree of freedom
WIDE = 4.0  # an interval whose ends differ by this factor names no value
STEPS = (0.04, 0.1, 0.25, 0.6, 1.2, 2.4, 5.0, 10.0, 20.0, 30.0)  # outward, in the logarithm
HALVINGS = 7  # of the step in which the limit was passed, at most
SHARP, FINE = 0.1, 0.005  # the end of an interval is known to this share of its width, or to this in the logarithm


@dataclass(frozen=True, eq=False)
class Profile:
    """The objective along one parameter, the others fitted anew at each value.

    grid, objective: (points,). best: the fitted value. low, high: ends of the values whose objective is within a share
    `within` of the least; 0 and infinity where no value within the form's bounds fits worse. flat: the ends differ by a factor
    of 4 or more, so that no value should be quoted.
    """

    parameter: str
    grid: Array
    objective: Array
    best: float
    low: float
    high: float
    within: float
    flat: bool

    def text(self) -> str:
        """One line for people."""
        if not self.flat:
            return f"{_short(self.low, 4)} to {_short(self.high, 4)}"
        if self.low <= 0 and math.isinf(self.high):
            return "flat: any value fits equally well"
        if math.isinf(self.high):
            return f"flat: {_short(self.low)} and everything above fit equally well"
        if self.low <= 0:
            return f"flat: {_short(self.high)} and everything below fit equally well"
        return f"flat: {_short(self.low)} to {_short(self.high)} fit equally well"

    def to_json(self) -> dict[str, Any]:
        """An open end is null, and so is an objective where nothing could be fitted."""
        return {
            "parameter": self.parameter,
            "grid": self.grid.tolist(),
            "objective": [value if math.isfinite(value) else None for value in self.objective.tolist()],
            "best": self.best,
            "low": self.low,
            "high": None if math.isinf(self.high) else self.high,
            "within": self.within,
            "flat": self.flat,
        }


def profile(
    runs: Runs,
    form: str | Form,
    parameter: str,
    grid: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    tie: Ties = (),
    residual: Residual = "log",
    within: float | None = None,
) -> Profile:
    """Profile of one parameter.

    Args:
        grid: values to try; default: outwards from the fitted value until the objective has risen, then in between.
        within: share by which the objective may rise; default 1 %, or what the likelihood ratio allows at 95 % for so many
            rows, if that is more (it is with fewer than 200). The other arguments are those of `fit`.

    Raises:
        ValueError: as `fit`; or the form has no such parameter, or it is fixed.
    """
    form, fixed = get(form), dict(fixed or {})
    if parameter not in form.names or parameter in fixed:
        free = [n for n in form.names if n not in fixed]
        raise ValueError(f"the form {form.name!r} has no free parameter {parameter!r}; it has {', '.join(free)}")
    valleys = fits(runs, form, weights, delta, fixed, tie, residual)

    def at(value: float, near: Sequence[Law]) -> Law:
        return fit(runs, form, weights, delta, {**fixed, parameter: value}, tie, residual, start=[*near, *valleys])

    allowed = _allowed(delta, valleys[0]) if within is None else within
    walk = _Walk(at, valleys[0], parameter, valleys[0].objective * (1 + allowed))
    bounds = next(((p.low, p.high) for p in form.exponents if p.name == parameter), (0.0, math.inf))
    if grid is None:
        walk.outwards(*bounds, unit=0.01 * float(runs.loss.min()))
    else:
        walk.along(np.sort(np.asarray(grid, np.float64).reshape(-1)))
    # The walk may find a better valley than the fit did.
    values = np.array(sorted(walk.objective))
    objective = np.array([walk.objective[v] for v in values])
    limit = objective.min() * (1 + allowed)
    good = np.flatnonzero(objective <= limit)
    low, high = float(values[good[0]]), float(values[good[-1]])
    if grid is None:
        low = 0.0 if good[0] == 0 else _crossing(values, objective, limit, good[0], good[0] - 1)
        high = math.inf if good[-1] == len(values) - 1 else _crossing(values, objective, limit, good[-1], good[-1] + 1)
    best = float(values[objective.argmin()])
    return Profile(parameter, values, objective, best, low, high, allowed, flat=high >= WIDE * low)


class _Walk:
    """Fits at ever more values of one parameter, each started from its neighbours."""

    def __init__(self, at: Callable[[float, Sequence[Law]], Law], best: Law, parameter: str, limit: float) -> None:
        self.at, self.parameter, self.limit, self.centre = at, parameter, limit, best.values[parameter]
        self.laws = {self.centre: best}
        self.objective = {self.centre: best.objective}

    def visit(self, value: float) -> bool:
        """Whether the parameter may have this value."""
        near = sorted(self.laws, key=lambda v: abs(v - value))[:2]
        if value not in self.objective:
            try:
                law = self.at(value, [self.laws[v] for v in near])
            except ValueError:  # no bottom with this value, which only happens far out
                self.objective[value] = math.inf
            else:
                self.laws[value], self.objective[value] = law, law.objective
        return self.objective[value] <= self.limit

    def along(self, grid: Array) -> None:
        """The values given, from the middle to both ends."""
        for value in sorted(grid.tolist(), key=lambda v: abs(math.log(max(v, 1e-12) / max(self.centre, 1e-12)))):
            self.visit(value)

    def outwards(self, lowest: float, highest: float, unit: float) -> None:
        """Until the limit is passed on both sides, or a bound reached; then where it is passed.

        Args:
            lowest, highest: of the values allowed. unit: a loss that may as well be zero.
        """
        self._side(-1, lowest, unit)
        self._side(1, highest, unit)

    def _side(self, sign: int, bound: float, unit: float) -> None:
        inside = self.centre
        for step in STEPS:
            value = self.centre * math.exp(sign * step) if self.centre > 0 else unit * math.expm1(sign * step)
            # the floor may be zero
            value = min(value, bound) if sign > 0 else 0.0 if self.parameter == "E" and value < unit else max(value, bound)
            if not self.visit(value):
                self._between(inside, value)
                return
            if value == bound:
                return
            inside = value

    def _between(self, inside: float, outside: float) -> None:
        for _ in range(HALVINGS):
            if self._gap(inside, outside) < SHARP * self._gap(inside, self.centre) + FINE:
                break
            middle = math.sqrt(inside * outside) if inside > 0 and outside > 0 else (inside + outside) / 2
            if self.visit(middle):
                inside = middle
            else:
                outside = middle

    def _gap(self, a: float, b: float) -> float:
        return abs(math.log(a / b)) if a > 0 and b > 0 else math.inf


def _crossing(values: Array, objective: Array, limit: float, inside: int, outside: int) -> float:
    """Where the objective passes the limit between two points of the grid."""
    share = (limit - objective[inside]) / (objective[outside] - objective[inside])
    a, b = values[inside], values[outside]
    return float(a * (b / a) ** share if min(a, b) > 0 else a + (b - a) * share)


def _allowed(delta: float, law: Law) -> float:
    """Rise that the likelihood ratio allows: residuals are taken as normal where delta is wide, as Laplace's where narrow."""
    return max(LEAST, math.expm1(CHI2 / law.rows / (2 if delta < law.spread else 1)))


def _short(value: float, digits: int = 2) -> str:
    return f"{float(f'{value:.{digits}g}'):g}"
