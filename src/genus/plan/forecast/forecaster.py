"""Forecast: the loss of a run that was not made, with an interval that says how far it may be off.

Several laws, each with a prior on its exponents and a discrepancy that is alike at neighbouring sizes, are fitted to the table
and weighed by what they predicted beyond rolling origins. The interval holds the uncertainty of each, the differences between
them and the noise of the seed, multiplied by what published extrapolations, and your own, have shown to be needed.

Legend: n fitted rows, m asked rows, k draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genus.plan.fit import Law
from genus.plan.forecast import blend, calibration, doubts
from genus.plan.forecast.calibration import Calibration
from genus.plan.forecast.rolling import NORMAL, Held, roll
from genus.plan.table import Array, Runs

FORMS = ("chinchilla", "bracket")
ONE_VARIABLE = ("power",)
DRAWS = 200
LEAST_ROWS, LEAST_BUDGETS = 4, 3


@dataclass(frozen=True)
class Band:
    """Expected loss and the interval that holds 90 % of runs; arrays of one shape."""

    loss: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class _Asked:
    """Rows that were asked for: (m,) log losses and standard deviations; shifts: what a lower R_D, R_N would change."""

    shape: tuple[int, ...]
    ratio: Array
    views: list[blend.View]
    mean: Array
    deviation: Array
    shifts: list[Array]


@dataclass
class Forecast:
    """What a table says about sizes and data beyond it. Made by `forecast`.

    runs: the fitted rows. forms: of the members. weights: (members,) shares. rolling: what was predicted beyond origins inside
    the table. warnings: reasons to trust it less, in sentences; `doubt` is the factor by which they widen the interval.
    """

    runs: Runs
    forms: tuple[str, ...]
    noise: float
    table: blend.Table
    members: list[blend.Member]
    weights: Array
    rolling: list[Held]
    calibration: Calibration
    warnings: list[str]
    doubt: float
    seed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        edges = np.round(np.cumsum(self.weights) * DRAWS).astype(int)
        self._draws = [blend.draw(m, int(n), rng) for m, n in zip(self.members, np.diff(edges, prepend=0))]
        self._luck = rng.normal(size=(len(blend.REPEATS), DRAWS))  # of each draw, with the worth of repeated tokens

    @property
    def coverage(self) -> dict[str, Any]:
        """Nominal and measured coverage of the intervals, the number of cases, and the measured coverage source by source."""
        return self.calibration.coverage()

    @property
    def laws(self) -> list[tuple[Law, float]]:
        """The laws without their discrepancy, one for each form (its best member), and the weight of the form."""
        names = blend.names(self.forms)
        by_form = self.weights.reshape(-1, len(names))
        best = by_form.argmax(0)
        return [(self.members[best[i] * len(names) + i].law(), float(by_form[:, i].sum())) for i in range(len(names))]

    def predict(
        self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None, batch: ArrayLike | None = None
    ) -> Band:
        """Loss of one run at these sizes and tokens; arguments broadcast. `unique`: distinct tokens where some are repeated.

        `batch` is accepted and ignored: the discrepancy holds what it does.
        """
        asked = self._ask(params, tokens, unique)
        mean, deviation = asked.mean, asked.deviation
        shape, half = asked.shape, self._half(deviation, asked.ratio)
        return Band(*(np.exp(v).reshape(shape) for v in (mean, mean - half, mean + half)))

    def deviation(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Array:
        """Standard deviation of the log loss of one run, doubts included, before calibration (what a `Case` records)."""
        asked = self._ask(params, tokens, unique)
        return self._total(asked.deviation).reshape(asked.shape)

    def draws(
        self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None, batch: ArrayLike | None = None
    ) -> Array:
        """(k, ...) joint samples of the loss surface, the same ones in every call: draw i is one surface."""
        asked = self._ask(params, tokens, unique)
        logs = np.concatenate([blend.sample(m, d, v) for m, d, v in zip(self.members, self._draws, asked.views)])
        for i, shift in enumerate(asked.shifts):
            logs += self._luck[i][:, None] * shift
        # The seed's noise is of a run, not of the surface.
        stretch = self._half(asked.deviation, asked.ratio) / (NORMAL * np.sqrt(asked.deviation**2 + self.noise**2))
        return np.exp(asked.mean + (logs - asked.mean) * stretch).reshape(len(logs), *asked.shape)

    def ratio(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """Compute of a run (tokens, in a forecast of one variable) as a multiple of the largest fitted one."""
        p, t = np.asarray(params, np.float64), np.asarray(tokens, np.float64)
        runs = self.runs
        if self.forms == ONE_VARIABLE:
            return np.broadcast_arrays(t / runs.tokens.max(), p)[0]
        each = float(np.median(runs.compute / (runs.params * runs.tokens)))
        return each * p * t / runs.compute.max()

    def to_json(self) -> dict[str, Any]:
        rows = {c: getattr(self.runs, c) for c in ("params", "tokens", "loss", "unique", "flops")}
        return {
            "forms": list(self.forms),
            "noise": self.noise,
            "runs": {"name": self.runs.name, **{c: v.tolist() for c, v in rows.items() if v is not None}},
            "weights": self.weights.tolist(),
            "laws": [{"weight": w, **law.to_json()} for law, w in self.laws],
            "rolling": [r.to_json() for r in self.rolling],
            "warnings": self.warnings,
            "doubt": self.doubt,
            "coverage": self.coverage,
            "calibration": {"multiplier": self.calibration.multiplier, "floor": self.calibration.floor},
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Forecast:
        """The same forecast: its members are fitted again to the stored rows, which gives the same numbers."""
        stored = dict(obj["runs"])
        runs = Runs(**{c: np.array(v) for c, v in stored.items() if c != "name"}, name=stored["name"], left_out=0)
        forms, noise = tuple(obj["forms"]), obj["noise"]
        table = blend.Table(runs, blend.learn_worth(runs))
        scale = Calibration(calibration.published(), obj["calibration"]["multiplier"], obj["calibration"]["floor"])
        return cls(
            runs,
            forms,
            noise,
            table,
            blend.fit_members(table, blend.names(forms), noise),
            np.array(obj["weights"]),
            [Held(**r) for r in obj["rolling"]],
            scale,
            list(obj["warnings"]),
            obj["doubt"],
            obj["seed"],
        )

    def _ask(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None) -> _Asked:
        """Everything known of these rows, before calibration."""
        columns = self.table.worth.columns(params, tokens, unique)
        shape = np.broadcast_shapes(*(c.shape for c in columns.values()))
        ratio = np.broadcast_to(self.ratio(params, tokens), shape).reshape(-1)
        views = self._views(columns, shape)
        mean, deviation = self._blend(views)
        shifts = []
        if unique is not None and self.forms != ONE_VARIABLE and np.any(np.asarray(tokens) > 1.001 * np.asarray(unique)):
            for name in self.table.worth.spread:
                moved = self.table.worth.moved(name).columns(params, tokens, unique)
                shifts.append(self._blend(self._views(moved, shape))[0] - mean)
        total = np.sqrt(deviation**2 + sum(shift**2 for shift in shifts))
        return _Asked(shape, ratio, [v for v, _ in views], mean, total, shifts)

    def _views(self, columns: Mapping[str, Array], shape: tuple[int, ...]) -> list[tuple[blend.View, Array]]:
        """For each member what it shares with those of its setting."""
        flat = {c: np.broadcast_to(v, shape).reshape(-1) for c, v in columns.items()}
        out: list[tuple[blend.View, Array]] = []
        for _, group in itertools.groupby(self.members, key=lambda m: id(m.field)):
            same = list(group)
            at = blend.view(same[0], flat)
            out += [(at, at.cross_MN @ same[0].field.white_NN.T)] * len(same)
        return out

    def _blend(self, views: Sequence[tuple[blend.View, Array]]) -> tuple[Array, Array]:
        """Log loss (m,) and its standard deviation over and within members."""
        parts = [blend.predict(m, at, white) for m, (at, white) in zip(self.members, views)]
        means, deviations = (np.stack(v) for v in zip(*parts))
        mean = self.weights @ means
        return mean, np.sqrt(self.weights @ (deviations**2 + (means - mean) ** 2))

    def _half(self, deviation: Array, ratio: Array) -> Array:
        return self.calibration.half_width(self._total(deviation), ratio)

    def _total(self, deviation: Array) -> Array:
        return self.doubt * np.sqrt(deviation**2 + self.noise**2)


def forecast(
    runs: Runs,
    forms: Sequence[str] = FORMS,
    calibration: Calibration | None = None,
    seed: int = 0,
) -> Forecast:
    """A forecast from a table of runs.

    Args:
        forms: of `genus.plan.forms`; ("power",) is the loss as a function of tokens alone, for models without a size (counts).
        calibration: how wide intervals are; by default from the published cases and your own file. seed: of the draws.

    Raises:
        ValueError: too few rows or budgets to say anything about others.
    """
    forms = tuple(forms)
    if forms == ONE_VARIABLE:
        runs = replace(runs, flops=runs.tokens)
    _check(runs)
    table = blend.Table(runs, blend.learn_worth(runs))
    members = blend.names(forms)
    noise = blend.pick_noise(table, members[0])
    fitted = blend.fit_members(table, members, noise)
    rolled = roll(runs, members, noise)
    weights = rolled.weights()
    found = doubts.find(table, fitted, weights, rolled, forms == ONE_VARIABLE)
    return Forecast(
        runs,
        forms,
        noise,
        table,
        fitted,
        weights,
        rolled.rows,
        calibration if calibration is not None else _load(None if forms == ONE_VARIABLE else float(runs.budgets().max())),
        [d.text for d in found],
        math.prod(d.factor for d in found),
        seed,
    )


def _load(flops: float | None) -> Calibration:
    return calibration.load(flops=flops)


def _check(runs: Runs) -> None:
    budgets = len(np.unique(runs.budgets()))
    if len(runs) < LEAST_ROWS or budgets < LEAST_BUDGETS:
        raise ValueError(
            f"{runs.name}: {len(runs)} rows at {budgets} budgets are too few for a forecast; it needs {LEAST_ROWS} rows at "
            f"{LEAST_BUDGETS} budgets or more: add runs that are smaller or shorter"
        )
