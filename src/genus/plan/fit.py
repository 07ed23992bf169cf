"""Fit a law of the loss to a table of runs.

Variable projection finds the valleys (`starts`), L-BFGS-B with analytic slopes descends into the best of them, and Newton
steps end at a vanishing gradient (`descend`). The objective is the *sum* of Huber losses of log residuals (Hoffmann 2022,
arXiv:2203.15556, section 3.3). A mean, with a solver's usual tolerances, stops too early (Besiroglu 2024, arXiv:2404.10102).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from genus.plan.descend import descend, polish
from genus.plan.forms import Form, get
from genus.plan.starts import starts
from genus.plan.table import Array, Runs

VALLEYS = 8  # starts that are followed down
POLISHED = 3  # of them whose last digits are worked out
BEND = 1e-4  # step of a difference
SAME = 1e-3  # bottoms nearer than this in every coordinate are one
STEEP = 1e-5  # a larger gradient at the end is an error
Residual = Literal["log", "plain"]
Ties = str | Sequence[str] | Sequence[Sequence[str]]


@dataclass(frozen=True)
class Law:
    """A fitted law.

    values: every parameter by name, in the units of the table. objective: sum of weighted Huber losses. gradient_norm: largest
    slope of the objective at the end, without units (1 is steep). rows: how many were fitted. spread: standard deviation of
    the log residuals if they were normal, from their median absolute value, so that outliers do not count. held: parameters
    that ended at a bound: no more than a bound is known of them. fixed: parameters that were given.
    """

    form: str
    values: dict[str, float]
    objective: float
    gradient_norm: float
    rows: int
    spread: float
    held: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    def predict(
        self,
        params: ArrayLike | None = None,
        tokens: ArrayLike | None = None,
        unique: ArrayLike | None = None,
        batch: ArrayLike | None = None,
        seconds: ArrayLike | None = None,
        memory: ArrayLike | None = None,
        compute: ArrayLike | None = None,
    ) -> Array:
        """Loss at these sizes; arguments broadcast. A form takes what it needs and ignores the rest."""
        given = {
            "params": params,
            "tokens": tokens,
            "unique": unique,
            "batch": batch,
            "seconds": seconds,
            "memory": memory,
            "compute": compute,
        }
        form = get(self.form)
        x = form.logs({k: None if v is None else np.asarray(v, np.float64) for k, v in given.items()})
        shape = np.broadcast_shapes(*(np.shape(v) for v in given.values() if v is not None))
        flat = {k: np.broadcast_to(v, shape).reshape(-1) for k, v in x.items()}
        origin = dict.fromkeys(flat, 0.0)
        return form.loss(form.to_coordinates(self.values, origin), flat, origin)[0].reshape(shape)

    def predict_runs(self, runs: Runs) -> Array:
        """Loss (rows,) that the law gives for a table."""
        form = get(self.form)
        x = form.of_runs(runs)
        origin = dict.fromkeys(x, 0.0)
        return form.loss(form.to_coordinates(self.values, origin), x, origin)[0]

    def residuals(self, runs: Runs) -> Array:
        """Log of the predicted over the measured loss (rows,)."""
        return np.log(self.predict_runs(runs)) - np.log(runs.loss)

    def to_json(self) -> dict[str, Any]:
        return {
            "form": self.form,
            "formula": get(self.form).formula,
            "values": dict(self.values),
            "objective": self.objective,
            "gradient_norm": self.gradient_norm,
            "rows": self.rows,
            "spread": self.spread,
            "held": list(self.held),
            "fixed": list(self.fixed),
        }

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Law:
        kept = {k: v for k, v in obj.items() if k != "formula"}
        return cls(**{**kept, "held": tuple(kept.get("held", ())), "fixed": tuple(kept.get("fixed", ()))})


def fit(
    runs: Runs,
    form: str | Form = "chinchilla",
    weights: ArrayLike | None = None,
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    tie: Ties = (),
    residual: Residual = "log",
    start: Sequence[Law] = (),
) -> Law:
    """The best law of a form.

    Args:
        weights: (rows,) non-negative; 0 leaves a row out. delta: Huber's; math.inf is least squares.
        fixed: values of parameters that are not fitted. tie: exponents that are equal, as "alpha=beta" or ("alpha", "beta").
        residual: of the logarithm of the loss, or of the loss itself. start: descend from these laws only, without a search.

    Raises:
        ValueError: too few rows, one size only, a form that needs a column the table does not have; or no bottom was reached.
    """
    return fits(runs, form, weights, delta, fixed, tie, residual, start)[0]


def fits(
    runs: Runs,
    form: str | Form = "chinchilla",
    weights: ArrayLike | None = None,
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    tie: Ties = (),
    residual: Residual = "log",
    start: Sequence[Law] = (),
) -> list[Law]:
    """The bottoms of the best few valleys, best first; arguments and errors as of `fit`."""
    problem = Problem(runs, get(form), weights, delta, fixed or {}, tie, residual)
    return problem.bottoms([problem.coordinates(law.values) for law in start] or problem.starts())


class Problem:
    """A table and a form, made ready for descent: which coordinates move, where, and the objective with its gradient.

    z (free,): the coordinates that move. u (p,): all of them; u = offset + spread @ z.
    """

    def __init__(
        self,
        runs: Runs,
        form: Form,
        weights: ArrayLike | None,
        delta: float,
        fixed: Mapping[str, float],
        tie: Ties,
        residual: Residual = "log",
    ) -> None:
        self.form, self.delta, self.plain = form, delta, residual == "plain"
        weights = np.ones(len(runs)) if weights is None else np.asarray(weights, np.float64)
        if weights.shape != (len(runs),) or not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"weights must be {len(runs)} numbers that are not negative, one for each row")
        if not delta > 0:
            raise ValueError(f"delta must be positive, not {delta}")
        runs, self.weights = runs[weights > 0], weights[weights > 0]
        self.fixed = _checked(form, fixed)
        self.groups = _groups(form, tie, self.fixed)
        self.loss = runs.loss
        raw = form.of_runs(runs)
        self._enough(runs, raw)
        # A fixed coefficient is fixed at one parameter or token, so its exponent must be free to turn about that point.
        turned = {t.column for t in form.terms if t.coefficient in self.fixed and t.exponent.name not in self.fixed}
        self.pivot = {c: 0.0 if c in turned else float(np.average(v)) for c, v in raw.items()}
        if "unique" in self.pivot:
            self.pivot["unique"] = self.pivot["tokens"]
        self.x = {c: v - self.pivot[c] for c, v in raw.items()}
        self._coordinates()
        self.scale = 1.0

    def _enough(self, runs: Runs, x: Mapping[str, Array]) -> None:
        form, free = self.form, len(self.groups)
        if len(runs) <= free:
            least = free + 1
            raise ValueError(
                f"{runs.name}: {len(runs)} rows are too few for the {free} free parameters of {form.name!r} ({form.formula}); "
                f"give at least {least}, better {3 * free}, or fix or tie some"
            )
        for t in form.terms:
            if t.exponent.name in self.fixed and t.coefficient in self.fixed:
                continue
            values = np.unique(np.round(x[t.column], 6))
            if len(values) < 2:
                shown = math.exp(values[0])
                raise ValueError(
                    f"{runs.name}: every row has {t.column} = {shown:.4g}, so {t.coefficient} and {t.exponent.name} of "
                    f"{form.formula} cannot be told from E; add runs with other {t.column}, or fit another form"
                )

    def _coordinates(self) -> None:
        """offset, spread and the bounds of z."""
        form, names = self.form, self.form.names
        size = float(np.exp(np.average(np.log(self.loss))))
        self.offset, self.spread = np.zeros(len(names)), np.zeros((len(names), len(self.groups)))
        low, high = np.full(len(names), -60.0), np.full(len(names), 60.0)
        for p in form.exponents:
            low[names.index(p.name)], high[names.index(p.name)] = math.log(p.low), math.log(p.high)
        low[0], high[0] = 0.0, float(self.loss.max()) / size
        for column, group in enumerate(self.groups):
            for name in group:
                self.spread[names.index(name), column] = size if name == "E" else 1.0
        first = [names.index(group[0]) for group in self.groups]
        self.low, self.high, self.first = low[first], high[first], first
        for name, value in self.fixed.items():
            self.offset[names.index(name)] = value if name == "E" else math.log(max(value, 1e-300))
        for i, t in enumerate(form.terms, 1):
            if t.coefficient in self.fixed and t.exponent.name in self.fixed:
                self.offset[i] -= self.fixed[t.exponent.name] * self.pivot[t.column]

    def coordinates(self, values: Mapping[str, float]) -> Array:
        """z of named values."""
        return self._gather(self.form.to_coordinates({**values, **self.fixed}, self.pivot))

    def _gather(self, u: Array) -> Array:
        """z of u; tied coordinates are averaged."""
        return (self.spread.T @ (u - self.offset)) / (self.spread**2).sum(0)

    def expand(self, z: Array) -> Array:
        """u of z."""
        return self.offset + self.spread @ z

    def starts(self, most: int = VALLEYS) -> list[Array]:
        """z of the valleys that variable projection finds."""
        found = starts(
            self.form,
            self.x,
            self.pivot,
            self.loss,
            self.weights,
            self.delta,
            constrain=lambda u: self.expand(np.clip(self._gather(u), self.low, self.high)),
            objective=lambda u: self.value_and_slopes(u)[0],
            fixed=self.fixed,
            most=most,
        )
        return [self._gather(u) for u in found]

    def residuals(self, u: Array) -> tuple[Array, Array]:
        """Residuals (n,) and their slopes (p, n)."""
        predicted, slopes = self.form.loss(u, self.x, self.pivot)
        if self.plain:
            return predicted - self.loss, slopes
        predicted = np.maximum(predicted, 1e-300)
        return np.log(predicted / self.loss), slopes / predicted

    def value_and_slopes(self, u: Array) -> tuple[float, Array]:
        """Sum of Huber losses, and its slopes (p,)."""
        r, slopes = self.residuals(u)
        inside = np.clip(r, -self.delta, self.delta)
        return float(self.weights @ (inside * (r - inside / 2))), slopes @ (self.weights * inside)

    def objective(self, z: Array) -> tuple[float, Array]:
        """The same of z, in units in which a slope of 1 is steep."""
        value, slopes = self.value_and_slopes(self.expand(z))
        return value / self.scale, self.spread.T @ slopes / self.scale

    def curvature(self, z: Array) -> Array:
        """Hessian of `objective`.

        The part of the rows inside delta is exact. The bend of the law is from differences of the slopes with each row's pull
        held, which, unlike differences of the gradient, do not see rows that cross delta.
        """

        def slopes(z: Array) -> tuple[Array, Array]:
            r, s = self.residuals(self.expand(z))
            return r, self.spread.T @ s

        r, here = slopes(z)
        inside, pull = self.weights * (np.abs(r) < self.delta), self.weights * np.clip(r, -self.delta, self.delta)
        steps = BEND * np.eye(len(z))
        bend = np.array([(slopes(z + step)[1] - slopes(z - step)[1]) @ pull for step in steps]) / (2 * BEND)
        return ((here * inside) @ here.T + (bend + bend.T) / 2) / self.scale

    def bottoms(self, zs: Sequence[Array]) -> list[Law]:
        """The lowest different bottoms that are reached from these starts, best first."""
        if not self.groups:
            return [self._law(np.zeros(0), 0.0)]
        self.scale = self._unit(zs[0])
        ends = sorted((descend(self.objective, z, self.low, self.high) for z in zs), key=lambda end: end[1])
        # A barely worse end may only have stopped earlier on its way.
        polished = [polish(self.objective, self.curvature, z, self.low, self.high) for z, _ in ends[:POLISHED]]
        polished.sort(key=lambda bottom: bottom[1])
        norm = polished[0][2]
        if not norm <= STEEP:
            raise ValueError(
                f"the fit of {self.form.name!r} to {len(self.loss)} rows did not reach a bottom (slope {norm:.1e}): the "
                "table does not determine the form; fit a simpler one, or fix or tie parameters"
            )
        apart: list[tuple[Array, float]] = []
        for z, _, norm in polished:
            if norm <= STEEP and all(np.abs(z - other).max() > SAME for other, _ in apart):
                apart.append((z, norm))
        return [self._law(z, norm) for z, norm in apart]

    def _unit(self, z: Array) -> float:
        r, _ = self.residuals(self.expand(np.clip(z, self.low, self.high)))
        typical = float(np.clip(np.median(np.abs(r)), 1e-9, None))
        return float(self.weights.sum()) * min(self.delta, typical)

    def _law(self, z: Array, norm: float) -> Law:
        u = self.expand(z)
        r, _ = self.residuals(u)
        if self.plain:
            r = np.log1p(r / self.loss)
        at_bound = (z <= self.low) | (z >= self.high)
        held = tuple(name for group, at in zip(self.groups, at_bound) if at for name in group)
        return Law(
            form=self.form.name,
            values={**self.form.to_values(u, self.pivot), **self.fixed},
            objective=self.value_and_slopes(u)[0],
            gradient_norm=norm,
            rows=len(self.loss),
            spread=1.4826 * _weighted_median(np.abs(r), self.weights),
            held=held,
            fixed=tuple(self.fixed),
        )


def line(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float, float]:
    """Power law y = coefficient * x ** exponent through positive points, least squares in logarithms.

    Returns:
        exponent, coefficient, R2 (weighted as the fit).
    """
    lx, ly = np.log(np.asarray(x, np.float64)), np.log(np.asarray(y, np.float64))
    w = np.ones_like(lx) if weights is None else np.asarray(weights, np.float64)
    mx, my = np.average(lx, weights=w), np.average(ly, weights=w)
    exponent = float((w * (lx - mx) * (ly - my)).sum() / (w * (lx - mx) ** 2).sum())
    left = (w * (ly - my - exponent * (lx - mx)) ** 2).sum()
    return exponent, float(np.exp(my - exponent * mx)), float(1 - left / (w * (ly - my) ** 2).sum())


def _checked(form: Form, fixed: Mapping[str, float]) -> dict[str, float]:
    for name, value in fixed.items():
        if name not in form.names:
            raise ValueError(f"the form {form.name!r} has no parameter {name!r} to fix; it has {', '.join(form.names)}")
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} cannot be fixed at {value}: parameters are not negative")
    return {name: float(value) for name, value in fixed.items()}


def _groups(form: Form, tie: Ties, fixed: dict[str, float]) -> list[tuple[str, ...]]:
    """Names of free parameters; tied ones together. A tie to a fixed exponent fixes the other."""
    single = isinstance(tie, str) or (len(tie) > 0 and isinstance(tie[0], str) and "=" not in tie[0])
    listed: Sequence[Any] = [tie] if single and tie else list(tie)
    ties = [tuple(part.strip() for part in t.split("=")) if isinstance(t, str) else tuple(t) for t in listed]
    exponents = {p.name for p in form.exponents}
    tied: dict[str, tuple[str, ...]] = {}
    for group in ties:
        for name in group:
            if name not in exponents:
                raise ValueError(f"only exponents of {form.name!r} can be tied ({', '.join(sorted(exponents))}), not {name!r}")
        values = {fixed[name] for name in group if name in fixed}
        if len(values) > 1:
            raise ValueError(f"{' = '.join(group)} cannot hold: they are fixed at different values")
        fixed.update({name: next(iter(values)) for name in group if values})
        tied.update(dict.fromkeys(group, group))
    groups: list[tuple[str, ...]] = []
    for name in form.names:
        group = tied.get(name, (name,))
        if name not in fixed and group not in groups:
            groups.append(group)
    return groups


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
