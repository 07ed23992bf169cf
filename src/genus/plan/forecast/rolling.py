"""Rolling origins: leave out the largest budgets, predict them from the rest, at several distances.

What a form did beyond the data it was fitted to is the only evidence on what it will do beyond the data there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from genus.plan import forms as laws
from genus.plan.forecast import blend
from genus.plan.forecast.discrepancy import NEAR
from genus.plan.table import Array, Runs

RATIOS = (2.0, 4.0, 8.0, 16.0, 32.0)
NORMAL = 1.645  # standard deviations to either side that hold 90 % of a normal distribution
LEAST = {1: 4, 2: 6}  # rows below an origin, by the variables of the form; of at least three sizes or amounts of data
BEYOND = 1.2  # rows this far above an origin are judged
DENSITY_FLOOR = 0.006  # added to a member's standard deviation where its hold-out density is scored, once per e-fold of compute
TRUST = 0.25  # share of the hold-out log density that counts: the rows beyond one origin are also beyond the next
TAILS = 4  # degrees of freedom of the density: one budget that went wrong must not decide


@dataclass(frozen=True)
class Held:
    """One line of the table: what one form, or the blend, predicted beyond one origin.

    origin: largest compute fitted. ratio: of the table's largest compute to it. fitted, held: rows. error: median of
    log(predicted / measured) over the held-out rows near the best of their budget; worst: the one farthest from 0.
    """

    form: str
    origin: float
    ratio: float
    fitted: int
    held: int
    error: float
    worst: float

    def to_json(self) -> dict[str, float | int | str]:
        return asdict(self)


@dataclass(frozen=True)
class Rolling:
    """What every member predicted beyond the origins.

    rows: the table. score: (members,) hold-out log density, summed over origins; origins: how many there were. missed: error of
    the blend beyond the nearest origin, in half-widths of its 90 % interval before calibration.
    """

    rows: list[Held]
    score: Array
    origins: int
    missed: float = 0.0

    def weights(self) -> Array:
        """(members,) shares: equal before the hold-out, then in favour of what predicted it."""
        raw = np.exp(TRUST * (self.score - self.score.max()))
        return raw / raw.sum()

    def errors(self, form: str = "blend") -> list[Held]:
        """Lines of one form, nearest origin first."""
        return [r for r in self.rows if r.form == form]


def roll(runs: Runs, members: Sequence[str], noise: float) -> Rolling:
    """Fit every member below each origin and judge it above."""
    compute, top = runs.compute, runs.compute.max()
    near = blend.excess(runs) < NEAR
    count, variables = len(members) * len(blend.settings(noise)), min(len(laws.get(members[0]).terms), 2)
    rows: list[Held] = []
    total, origins, missed = np.zeros(count), 0, 0.0
    seen: set[int] = set()
    for ratio in RATIOS:
        below = compute <= top / ratio * 1.0001
        if below.sum() in seen or not _enough(runs[below], variables):
            continue
        seen.add(int(below.sum()))
        origin = float(compute[below].max())
        judged = runs[(compute > origin * BEYOND) & near]
        if not len(judged):
            continue
        error, deviation = _judge(runs[below], judged, members, noise)
        horizon = np.log(judged.compute / origin)
        variance = deviation**2 + DENSITY_FLOOR**2 * (1 + horizon)
        total += (-0.5 * np.log(variance) - 0.5 * (TAILS + 1) * np.log1p(error**2 / (TAILS * variance))).mean(1)
        origins += 1
        if origins == 1:
            within = np.sqrt((variance + (error - error.mean(0)) ** 2).mean(0) + noise**2)
            missed = float(np.median(np.abs(error.mean(0)) / (NORMAL * within)))
        by_form = error.reshape(-1, len(members), error.shape[1])
        lines = {name: by_form[:, i].mean(0) for i, name in enumerate(members)} | {"blend": error.mean(0)}
        for name, e in lines.items():
            worst = float(e[np.abs(e).argmax()])
            rows.append(Held(name, origin, float(top / origin), int(below.sum()), len(judged), float(np.median(e)), worst))
    return Rolling(rows, total, origins, missed)


def _enough(runs: Runs, variables: int) -> bool:
    if len(runs) < LEAST[variables]:
        return False
    spread = [len(np.unique(np.round(np.log(c), 2))) for c in (runs.params, runs.tokens)]
    return max(spread) >= 3 and runs.compute.max() / runs.compute.min() > 2


def _judge(fitted: Runs, judged: Runs, members: Sequence[str], noise: float) -> tuple[Array, Array]:
    """(members, rows) errors and standard deviations in log loss."""
    table = blend.Table(fitted, blend.learn_worth(fitted))
    columns = table.worth.columns(judged.params, judged.tokens, judged.unique)
    measured = np.log(judged.loss)
    out = [blend.predict(m, blend.view(m, columns)) for m in blend.fit_members(table, members, noise)]
    return np.stack([mean - measured for mean, _ in out]), np.stack([deviation for _, deviation in out])
