"""Reasons to trust a forecast less than the fit of its table suggests, each with what to do about it.

A warning is a sentence to act on; `benchmarks/plan_extrapolation.py` prints which published table got which, and how far off the
forecast of it was. What widens the interval beyond what members say of themselves are `missed` and `edge`: of all signs that were
tried, these still told something of the error once it was divided by the standard deviation that the forecast gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from genus.plan.forecast import blend
from genus.plan.forecast.blend import Member, Table
from genus.plan.forecast.discrepancy import NEAR
from genus.plan.forecast.rolling import Rolling
from genus.plan.table import Array

AHEAD = 10.0  # compute, as a multiple of the largest fitted, at which forms are compared
DISAGREE = 0.06  # range of the forms' log losses there
BENT = 1.6  # slope of the frontier in the older half of the compute over the newer half's
MISSED = 1.0  # error beyond the nearest origin, in half-widths of its own 90 % interval
NARROW = 8.0  # range of compute of the rows near the best
TOP_BUDGETS = 4  # the largest ones are asked whether their best size is the smallest or the largest tried


@dataclass(frozen=True)
class Doubt:
    """name: one word. text: the warning. factor: by how much it widens the interval."""

    name: str
    text: str
    factor: float = 1.0


def find(table: Table, members: Sequence[Member], weights: Array, rolling: Rolling, single: bool) -> list[Doubt]:
    """All doubts about a forecast. `single`: of one variable, so that there is no size to choose."""
    checks: list[Callable[[], Doubt | None]] = [
        lambda: _bent(table),
        lambda: _disagree(table, members, weights),
        lambda: _missed(rolling),
        lambda: _narrow(table),
    ]
    if not single:
        checks.append(lambda: _edge(table))
    return [doubt for check in checks if (doubt := check()) is not None]


def _near(table: Table) -> tuple[Array, Array]:
    """Log compute and log loss of the rows near the best of their budget."""
    near = table.excess < NEAR
    return np.log(table.runs.compute[near]), np.log(table.runs.loss[near])


def _bent(table: Table) -> Doubt | None:
    x, y = _near(table)
    middle = (x.min() + x.max()) / 2
    old, new = x <= middle, x > middle
    if min(old.sum(), new.sum()) < 3 or min(np.ptp(x[old]), np.ptp(x[new])) < 0.5:
        return None
    before, after = (-float(np.polyfit(x[part], y[part], 1)[0]) for part in (old, new))
    if after <= 0 or before / after < BENT:
        return None
    return Doubt(
        "bent",
        f"bent: the loss fell {before / after:.1f} times faster in the smaller half of the budgets (as compute^-{before:.3f}) "
        f"than in the larger (^-{after:.3f}). No single law fits both: the small runs may have been held back by warm-up, batch "
        "or learning rate. They count little in this forecast; a plain law may be off by much",
    )


def _disagree(table: Table, members: Sequence[Member], weights: Array) -> Doubt | None:
    runs = table.runs
    best = np.flatnonzero(table.excess < NEAR)
    at = best[runs.compute[best].argmax()]
    step = math.sqrt(AHEAD) if len(members[0].form.terms) > 1 else AHEAD
    asked = runs[[at]]
    columns = table.worth.columns(asked.params * step, asked.tokens * step, None if asked.unique is None else asked.unique * step)
    names = list(dict.fromkeys(m.name for m in members))
    means = np.array([float(blend.predict(m, blend.view(m, columns))[0][0]) for m in members])
    by_form = {n: np.average(means[i :: len(names)], weights=weights[i :: len(names)]) for i, n in enumerate(names)}
    low, high = min(by_form, key=lambda n: by_form[n]), max(by_form, key=lambda n: by_form[n])
    gap = by_form[high] - by_form[low]
    if gap < DISAGREE:
        return None
    return Doubt(
        "disagree",
        f"disagree: at {AHEAD:g} times the largest fitted compute the forms differ by {100 * gap:.1f} % ({low!r} says "
        f"{math.exp(by_form[low]):.3f}, {high!r} {math.exp(by_form[high]):.3f}), more than they do on most tables. The interval "
        "holds both; a run at two or three times the largest budget would tell which is right",
    )


def _missed(rolling: Rolling) -> Doubt | None:
    if not rolling.missed > MISSED:
        return None
    line = rolling.errors()[0]
    return Doubt(
        "missed",
        f"missed: without its largest budgets (the {line.held} best rows above 1/{line.ratio:.1f} of the compute) the same table "
        f"gives a forecast of them that is {100 * line.error:+.1f} % off, {rolling.missed:.1f} times its own interval. Expect "
        "the same beyond the table; intervals are widened by as much",
        min(rolling.missed, 3.0),
    )


def _narrow(table: Table) -> Doubt | None:
    x, _ = _near(table)
    width = math.exp(float(np.ptp(x)))
    if width >= NARROW:
        return None
    return Doubt(
        "narrow",
        f"narrow: the rows near the best span a factor {width:.1f} in compute, so exponents are mostly what the prior says. "
        "Add smaller budgets, which cost least",
    )


def _edge(table: Table) -> Doubt | None:
    runs = table.runs
    groups = runs.budgets(0.3)
    asked, hit = 0, []
    for g in np.unique(groups)[::-1]:
        rows = np.flatnonzero(groups == g)
        if len(np.unique(runs.params[rows])) < 3:
            continue
        best = rows[runs.loss[rows].argmin()]
        asked += 1
        if runs.params[best] in (runs.params[rows].min(), runs.params[rows].max()):
            hit.append("smallest" if runs.params[best] == runs.params[rows].min() else "largest")
        if asked == TOP_BUDGETS:
            break
    if asked < 2 or len(hit) <= asked / 2:
        return None
    side = max(set(hit), key=hit.count)
    return Doubt(
        "edge",
        f"edge: at {len(hit)} of the {asked} largest budgets the best size is the {side} one tried, so the best may lie beyond. "
        f"Add a {'smaller' if side == 'smallest' else 'larger'} size there",
        1.25,
    )
