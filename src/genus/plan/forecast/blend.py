"""Laws with priors and a discrepancy, fitted to one table: the members of a forecast.

A member is a form (how size and data reduce the loss) and a setting of the discrepancy. Its parameters are found at the largest
posterior (Levenberg-Marquardt on whitened residuals), its uncertainty by the curvature there.

Legend: n fitted rows, m asked rows, c columns, p parameters, d draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genus.plan import forms as laws
from genus.plan.fit import Law
from genus.plan.forecast.discrepancy import Field, Setting, excess, waves
from genus.plan.table import Array, Runs

AMPLITUDES, LENGTHS, MEMORIES = (0.01, 0.03), (2.0, 3.0), (1.0, 3.0)
NOISES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
FLOORLESS = "without a floor"  # a form whose E is 0: the pessimist about saturation, as the five-parameter law is its optimist

# Means and standard deviations of the logarithms of parameters. Exponents: published fits of size and data lie from 0.28 to 0.5
# (Hoffmann 2022: 0.34, 0.28; Besiroglu 2024: 0.35, 0.37; Muennighoff 2023: 0.35; Gemstones 2025: 0.30 and 0.59 to 0.73).
EXPONENT, EXPONENT_SPREAD, SINGLE_SPREAD = 0.3, 0.2, 0.4
FLOOR_SHARE, FLOOR_SPREAD = 0.6, 1.0  # E, of the lowest loss seen
TERM_SHARE, TERM_SPREAD = 0.3, 10.0  # A / N^alpha and B / D^beta at the centre of the table
GAMMA_SPREAD = 0.5
REPEATS = {"R_D": (15.4, 1.0), "R_N": (5.3, 1.0)}  # Muennighoff 2023


@dataclass(frozen=True)
class Worth:
    """What repeated tokens, and parameters beyond what the unique ones feed, are worth: effective columns of `repeated`.

    values: of that form, learnt from a table with repeats; otherwise R_D alone, as published, and no discount of parameters; none
    at all: nothing is discounted.
    spread: standard deviations of the logarithms of R_D and R_N.
    """

    values: Mapping[str, float] = field(default_factory=lambda: {"R_D": REPEATS["R_D"][0]})
    spread: Mapping[str, float] = field(default_factory=lambda: {"R_D": REPEATS["R_D"][1]})

    def columns(self, params: Any, tokens: Any, unique: Any = None) -> dict[str, Array]:
        """Effective parameters and tokens, and passes over the data; the true ones and one pass where `unique` is not given."""
        n, d = np.broadcast_arrays(np.asarray(params, np.float64), np.asarray(tokens, np.float64))
        if unique is None:
            return {"params": n, "tokens": d, "passes": np.ones_like(d)}
        v = self.values
        u = np.minimum(np.asarray(unique, np.float64), d)
        if not v:
            return {"params": n, "tokens": d, "passes": d / u}
        if "R_N" in v:
            g = (v["alpha"] * v["A"] / (v["beta"] * v["B"])) ** (1 / (v["alpha"] + v["beta"]))
            n = _worth(n, np.minimum(g * (u * g) ** (v["beta"] / v["alpha"]), n), v["R_N"])
        # A table without repeats has nothing to say of passes: what it misses elsewhere then holds here too.
        return {"params": n, "tokens": _worth(d, u, v["R_D"]), "passes": d / u if "R_N" in v else np.ones_like(d)}

    def moved(self, name: str) -> Worth:
        """The same with one constant a standard deviation lower, to which side it matters more."""
        return Worth({**self.values, name: self.values[name] * math.exp(-self.spread[name])}, self.spread)


def _worth(seen: Array, base: Array, decay: float) -> Array:
    return base * (1 + decay * -np.expm1(-(seen / base - 1) / decay))


@dataclass(frozen=True)
class Table:
    """A run table as members see it: effective columns, depth below the top, excess over the best."""

    runs: Runs
    worth: Worth = field(default_factory=Worth)
    columns: dict[str, Array] = field(init=False)
    depth: Array = field(init=False)
    excess: Array = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "columns", self.worth.columns(self.runs.params, self.runs.tokens, self.runs.unique))
        put(self, "depth", np.log(self.runs.compute.max() / self.runs.compute))
        put(self, "excess", excess(self.runs))


@dataclass
class Member:
    """One form under one setting, fitted. `u`: coordinates of genus.plan.forms."""

    name: str
    form: laws.Form
    field: Field
    pivot: dict[str, float]
    u: Array
    weight_N: Array  # inverse covariance times residuals: what the discrepancy is made of
    slope_NP: Array  # whitened slopes of log loss
    covariance_PP: Array
    evidence: float
    residual_N: Array  # measured minus the law alone, in log loss

    def law(self) -> Law:
        """The law without its discrepancy."""
        r = self.residual_N
        return Law(
            form=self.form.name,
            values=self.form.to_values(self.u, self.pivot),
            objective=float((r**2).sum() / 2),
            gradient_norm=0.0,
            rows=len(r),
            spread=1.4826 * float(np.median(np.abs(r))),
            fixed=("E",) if self.name.endswith(FLOORLESS) else (),
        )


def names(forms: Sequence[str]) -> list[str]:
    """Each form, and the last of them once more without a floor."""
    return [*forms, f"{forms[-1]}, {FLOORLESS}"]


def settings(noise: float) -> list[Setting]:
    return [Setting(a, length, memory, noise) for a, length, memory in itertools.product(AMPLITUDES, LENGTHS, MEMORIES)]


def fit_members(table: Table, members: Sequence[str], noise: float) -> list[Member]:
    """Every form under every setting, settings outermost."""
    fitted = []
    for setting in settings(noise):
        where: Field | None = None
        for name in members:
            member = fit_member(table, name, setting, where)
            where = member.field
            fitted.append(member)
    return fitted


def fit_member(table: Table, name: str, setting: Setting, where: Field | None = None) -> Member:
    """The parameters of largest posterior. `where`: the same table's discrepancy under the same setting, if it is at hand."""
    form = laws.get(name.removesuffix(f", {FLOORLESS}"))
    logs = form.logs({**table.columns, "unique": table.runs.unique} if form.name == "repeated" else table.columns)
    pivot = {c: float(v.mean()) for c, v in logs.items()}
    if "unique" in pivot:
        pivot["unique"] = pivot["tokens"]
    x = {c: v - pivot[c] for c, v in logs.items()}
    if where is None:
        where = Field(_places(form, x, table.columns), table.depth, table.excess, setting)
    prior, spread = _prior(form, float(table.runs.loss.min()))
    free = slice(1, None) if name.endswith(FLOORLESS) else slice(None)
    measured = np.log(table.runs.loss)

    def u_of(z: Array) -> Array:
        return np.concatenate([[np.exp(z[0]) if free.start is None else 0.0], z[1:]])

    def evaluate(z: Array) -> tuple[float, Array, Array]:
        """Negative log posterior, whitened residuals and their slopes in the free coordinates."""
        predicted, slopes = log_loss(form, u_of(z), x, pivot)
        r = where.white_NN @ (predicted - measured)
        return 0.5 * float(r @ r + (((z - prior) / spread)[free] ** 2).sum()), r, slopes[:, free]

    z, value, r, slopes = _descend(evaluate, prior, spread, free, where.white_NN)
    white = where.white_NN @ slopes
    curvature = white.T @ white + np.diag(spread[free] ** -2.0)
    evidence = -value - 0.5 * (where.logdet + np.linalg.slogdet(curvature)[1]) - float(np.log(spread[free]).sum())
    residual = measured - log_loss(form, u_of(z), x, pivot)[0]
    return Member(
        name,
        form,
        where,
        pivot,
        u_of(z),
        -where.white_NN.T @ r,
        white,
        np.asarray(np.linalg.inv(curvature), np.float64),
        evidence,
        residual,
    )


def _places(form: laws.Form, x: Mapping[str, Array], columns: Mapping[str, Array]) -> Array:
    """(m, c) where rows lie for the discrepancy: the variables of the law, and passes where the table has repeats."""
    return np.stack([*(x[t.column] for t in form.terms), np.log(columns["passes"]).reshape(-1)], 1)


def log_loss(form: laws.Form, u: Array, x: Mapping[str, Array], pivot: Mapping[str, float]) -> tuple[Array, Array]:
    """Log loss (m,) and its slopes (m, p), the first in log E."""
    loss, slopes = form.loss(u, x, pivot)
    loss = np.maximum(loss, 1e-300)
    slopes = slopes / loss
    slopes[0] *= u[0]
    return np.log(loss), slopes.T


def _prior(form: laws.Form, lowest: float) -> tuple[Array, Array]:
    """Mean and standard deviation (p,) of log E and the other coordinates."""
    exponent = EXPONENT_SPREAD if len(form.terms) > 1 else SINGLE_SPREAD
    rows = [(np.log(FLOOR_SHARE * lowest), FLOOR_SPREAD)]
    rows += [(np.log(TERM_SHARE * lowest), TERM_SPREAD)] * len(form.terms)
    rows += [(np.log(EXPONENT), exponent)] * len(form.terms)
    for p in form.shape:
        mean, spread = REPEATS.get(p.name, (1.0, GAMMA_SPREAD))
        rows.append((np.log(mean), spread))
    mean_P, spread_P = np.array(rows).T
    return mean_P, spread_P


def _descend(evaluate: Any, prior: Array, spread: Array, free: slice, white: Array) -> tuple[Array, float, Array, Array]:
    z = prior.copy()
    value, r, slopes = evaluate(z)
    damping = 1e-2
    for _ in range(60):
        J = white @ slopes
        gradient = J.T @ r + ((z - prior) / spread**2)[free]
        H = J.T @ J + np.diag(spread[free] ** -2.0)
        for _ in range(10):
            step = np.clip(-np.linalg.solve(H + damping * np.diag(np.diag(H)), gradient), -1, 1)
            trial = z.copy()
            trial[free] += step
            new = evaluate(trial)
            if np.isfinite(new[0]) and new[0] < value:
                break
            damping *= 4
        else:
            break
        gained = value - new[0]
        z, (value, r, slopes), damping = trial, new, max(damping / 6, 1e-9)
        if gained < 1e-4:
            break
    return z, value, r, slopes


def pick_noise(table: Table, name: str) -> float:
    """The seed's noise under which the table is most likely, for one form and a middling setting."""
    tried = [(fit_member(table, name, Setting(0.01, LENGTHS[0], MEMORIES[1], noise)).evidence, noise) for noise in NOISES]
    return max(tried)[1]


def learn_worth(runs: Runs) -> Worth:
    """R_D and R_N of a table with repeated tokens; the published R_D where no token is repeated."""
    if runs.unique is None or (runs.tokens <= runs.unique * 1.001).all():
        return Worth()
    member = fit_member(Table(runs, Worth({}, {})), "repeated", Setting(0.01, LENGTHS[0], MEMORIES[1], 0.004))
    deviation = np.sqrt(np.diag(member.covariance_PP))[[member.form.names.index(name) for name in REPEATS]]
    return Worth(member.form.to_values(member.u, member.pivot), dict(zip(REPEATS, deviation.tolist())))


@dataclass(frozen=True)
class View:
    """Rows that are asked for, prepared for one member's field: what all its forms share."""

    x: dict[str, Array]
    x_MC: Array
    cross_MN: Array


def view(member: Member, columns: Mapping[str, Array]) -> View:
    logs = member.form.logs(dict(columns))
    x = {c: v.reshape(-1) - member.pivot[c] for c, v in logs.items()}
    x_MC = _places(member.form, x, columns)
    return View(x, x_MC, member.field.cross(x_MC))


def predict(member: Member, at: View, white_MN: Array | None = None) -> tuple[Array, Array]:
    """Log loss (m,) and its standard deviation, the seed's noise not included."""
    mean, slopes = log_loss(member.form, member.u, at.x, member.pivot)
    white = at.cross_MN @ member.field.white_NN.T if white_MN is None else white_MN
    free = slopes[:, -len(member.covariance_PP) :] - white @ member.slope_NP
    variance = member.field.setting.amplitude**2 - (white**2).sum(1) + ((free @ member.covariance_PP) * free).sum(1)
    return mean + at.cross_MN @ member.weight_N, np.sqrt(np.maximum(variance, 0))


@dataclass(frozen=True)
class Draws:
    """Some joint samples of one member's surface (Matheron's rule), made once so that they agree from call to call."""

    step_PD: Array
    features: Mapping[str, Array]
    wave_FD: Array
    weight_ND: Array


def draw(member: Member, count: int, rng: np.random.Generator) -> Draws:
    p, where = len(member.covariance_PP), member.field
    step = np.linalg.cholesky(member.covariance_PP) @ rng.normal(size=(p, count))
    features = where.features(rng)
    wave = rng.normal(size=(len(features["phase"]), count))
    sampled = where.scale_N[:, None] * (waves(where.x_NC, features) @ wave)
    sampled += where.noise_N[:, None] * rng.normal(size=sampled.shape)
    # In whitened coordinates: K^-1 (residual - slopes step - sample).
    weight = member.weight_N[:, None] - where.white_NN.T @ (member.slope_NP @ step) - where.solve(sampled)
    return Draws(step, features, wave, weight)


def sample(member: Member, draws: Draws, at: View) -> Array:
    """(d, m) log losses."""
    mean, slopes = log_loss(member.form, member.u, at.x, member.pivot)
    moved = slopes[:, -len(draws.step_PD) :] @ draws.step_PD
    fresh = member.field.setting.amplitude * (waves(at.x_MC, draws.features) @ draws.wave_FD)
    return (mean[:, None] + moved + fresh + at.cross_MN @ draws.weight_ND).T
