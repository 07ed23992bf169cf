"""The pilot: before sizes are compared, each branch's learning rate, the noise between seeds, and what diverges.

A published rule for the learning rate was found on other data and other sizes, and a branch with a rate that does not suit it
loses for the wrong reason. So the rule is tried times 1/2, 1 and 2, at the smallest size and at the second-largest; where the
best of them lies at the edge, one step further. A factor is taken when it gains more than seeds differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genus.plan.branches import branch
from genus.plan.trials.runners import Runner
from genus.plan.trials.sweep import OnResult, operations, sweep
from genus.plan.trials.trial import Result, Trial

FACTORS = (0.5, 1.0, 2.0)
SEEDS = 3
SIGNIFICANT = 2.0  # standard errors of a difference


@dataclass(frozen=True)
class Check:
    """What the pilot says of one recipe.

    Attributes:
        factor: on the recipe's learning rate, from now on. gain: relative fall of bits per byte that it brings over 1.
        noise: standard deviation of log bits per byte between seeds. edge: the best factor was the last one tried.
        rows: {"parameters", "tokens", "factor", "seed", "bpb", "status", "reason"} of every run. notes: sentences.
        usable: whether any factor trained the smallest size.
    """

    recipe: str
    factor: float = 1.0
    gain: float = 0.0
    noise: float = 0.0
    edge: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    usable: bool = True


@dataclass(frozen=True)
class Pilot:
    """A check for each recipe, and the noise between seeds over all of them (standard deviation of log bits per byte)."""

    checks: dict[str, Check]
    noise: float

    def apply(self, trial: Trial) -> Trial:
        """The trial with its recipe's factor."""
        found = self.checks.get(trial.recipe)
        return trial if found is None else replace(trial, lr_factor=found.factor)

    @property
    def unusable(self) -> dict[str, str]:
        """Recipes that no factor trained, and why."""
        return {name: c.notes[-1] for name, c in self.checks.items() if not c.usable}

    def to_json(self) -> dict[str, Any]:
        return {"noise": self.noise, "checks": {name: asdict(check) for name, check in self.checks.items()}}


def pilot(
    trials: Iterable[Trial],
    runner: Runner,
    folder: str | Path,
    on_result: OnResult | None = None,
    deadline: float | None = None,
    seconds: Callable[[Trial], float] | None = None,
    seeds: int = SEEDS,
) -> Pilot:
    """Check the recipes of a planned sweep. Everything is a trial: what is stored costs nothing, and at factor 1 the smallest
    size is the sweep's own trial.

    Args:
        trials: of the sweep. seeds: of the smallest size; 1 = do not measure the noise. The others are `sweep`'s.
    """
    cells = {recipe: cell for recipe, cell in _cells(trials).items() if branch(recipe).kind == "descended"}
    first = [t for cell in cells.values() for t in _first(cell, seeds)]
    found = {r.key: r for r in sweep(first, runner, folder, on_result, deadline, seconds).results}
    pooled = _pooled([_noise(cell[0], found, seeds) for cell in cells.values()])
    further = {recipe: step for recipe, cell in cells.items() if (step := _further(cell, found)) is not None}
    if further:
        more = [replace(size, lr_factor=step) for recipe, step in further.items() for size in cells[recipe]]
        found |= {r.key: r for r in sweep(more, runner, folder, on_result, deadline, seconds).results}
    checks = {}
    for recipe, cell in cells.items():
        factors = sorted({*FACTORS, *([further[recipe]] if recipe in further else [])})
        checks[recipe] = _judge(recipe, cell, factors, found, seeds, pooled)
    return Pilot(checks, pooled)


def _cells(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Per recipe the smallest size with all its horizons, and the second-largest with its first."""
    sizes: dict[str, list[Trial]] = {}
    for trial in trials:
        sizes.setdefault(trial.recipe, []).append(replace(trial, lr_factor=1.0))
    cells = {}
    for recipe, group in sizes.items():
        group.sort(key=lambda t: (t.parameters or 0, operations(t)))
        cells[recipe] = group[:1]
        if len(group) > 2:
            cells[recipe].append(replace(group[-2], horizons=group[-2].horizons[:1]))
    return cells


def _first(cell: Sequence[Trial], seeds: int) -> list[Trial]:
    smallest = cell[0]
    rates = [replace(size, lr_factor=factor) for size in cell for factor in FACTORS]
    return rates + [replace(smallest, seed=smallest.seed + i) for i in range(1, seeds)]


def _noise(smallest: Trial, found: dict[str, Result], seeds: int) -> list[float]:
    """Variances of log bits per byte between seeds, one for each horizon."""
    same = [found.get(replace(smallest, seed=smallest.seed + i).key) for i in range(seeds)]
    logs = [[math.log(p.bpb) for p in r.points] for r in same if r is not None and r.status == "done"]
    return np.var(np.array(logs), axis=0, ddof=1).tolist() if len(logs) > 1 else []


def _pooled(variances: Sequence[Sequence[float]]) -> float:
    every = [v for group in variances for v in group]
    return math.sqrt(sum(every) / len(every)) if every else 0.0


def _loss(size: Trial, factor: float, found: dict[str, Result]) -> float | None:
    """Log bits per byte at the last horizon; infinite where the trial diverged, None where there is none."""
    result = found.get(replace(size, lr_factor=factor).key)
    if result is None or result.status == "failed":
        return None
    return math.log(result.points[-1].bpb) if result.status == "done" else math.inf


def _means(cell: Sequence[Trial], factors: Iterable[float], found: dict[str, Result]) -> dict[float, float]:
    """Mean of log bits per byte for each factor, over the sizes at which all of FACTORS were measured."""
    complete = [size for size in cell if all(_loss(size, f, found) is not None for f in FACTORS)]
    means = {}
    for factor in factors:
        losses = [x for size in complete if (x := _loss(size, factor, found)) is not None]
        if losses and len(losses) == len(complete):
            means[factor] = sum(losses) / len(losses)
    return means


def _further(cell: Sequence[Trial], found: dict[str, Result]) -> float | None:
    """The factor beyond the edge at which the best one lies."""
    means = _means(cell, FACTORS, found)
    if not means:
        return None
    if all(math.isinf(m) for m in means.values()):
        return FACTORS[0] / 2
    best = _best(means)
    return {FACTORS[0]: FACTORS[0] / 2, FACTORS[-1]: FACTORS[-1] * 2}.get(best)


def _judge(
    recipe: str, cell: Sequence[Trial], factors: Sequence[float], found: dict[str, Result], seeds: int, pooled: float
) -> Check:
    means = _means(cell, factors, found)
    own = _pooled([_noise(cell[0], found, seeds)])
    noise = max(own, pooled)
    rows, notes = _rows(cell, factors, found, seeds), []
    diverged = sorted({r["factor"] for r in rows if r["status"] == "diverged"})
    if diverged:
        notes.append(f"{recipe}: diverges at {_times(diverged)} its learning rate")
    finite = {f: m for f, m in means.items() if math.isfinite(m)}
    if not means:
        notes.append(f"{recipe}: its learning rate was not checked, since the time was too short")
        return Check(recipe, noise=own, rows=rows, notes=notes)
    if not finite:
        why = next(r["reason"] for r in rows if r["reason"])
        notes.append(f"{recipe}: no learning rate was found that trains it ({why})")
        return Check(recipe, noise=own, rows=rows, notes=notes, usable=any(r["status"] == "done" for r in rows))
    best = _best(finite)
    base = means.get(1.0, math.inf)
    gain = 1 - math.exp(finite[best] - base) if math.isfinite(base) else math.inf
    least = SIGNIFICANT * noise * math.sqrt(2 / len(cell))
    takes = best != 1.0 and -math.log1p(-min(gain, 1 - 1e-12)) > least
    edge = takes and best in (min(means), max(means))
    if takes:
        what = f"{100 * gain:.1f} % fewer bits per byte than ×1" if math.isfinite(gain) else "at ×1 it diverges"
        notes.append(f"{recipe}: learning rate ×{best:g} ({what}; seeds differ by {100 * noise:.1f} %)")
    if edge:
        notes.append(f"{recipe}: ×{best:g} is the last factor that was tried; the best one may lie beyond")
    choices = {size.parameters: _best(losses) for size in cell if (losses := _finite(size, means, found))}
    if len(set(choices.values())) > 1 and takes:
        each = " and ".join(f"×{f:g} at {n:,} parameters" for n, f in choices.items() if n)
        notes.append(f"{recipe}: sizes disagree on the learning rate ({each}): it may not carry over to larger ones")
    return Check(recipe, best if takes else 1.0, gain if takes and math.isfinite(gain) else 0.0, own, edge, rows, notes)


def _best(losses: dict[float, float]) -> float:
    """The factor with the least loss; of equal ones that nearest to 1."""
    return min(losses, key=lambda f: (losses[f], abs(math.log(f))))


def _finite(size: Trial, factors: Iterable[float], found: dict[str, Result]) -> dict[float, float]:
    losses = {f: _loss(size, f, found) for f in factors}
    return {f: x for f, x in losses.items() if x is not None and math.isfinite(x)}


def _rows(cell: Sequence[Trial], factors: Sequence[float], found: dict[str, Result], seeds: int) -> list[dict[str, Any]]:
    smallest = cell[0]
    asked = [replace(size, lr_factor=factor) for size in cell for factor in factors]
    asked += [replace(smallest, seed=smallest.seed + i) for i in range(1, seeds)]
    rows = []
    for trial in asked:
        result = found.get(trial.key)
        if result is None:
            continue
        last = result.points[-1] if result.points else None
        rows.append(
            {
                "parameters": (result.parameters or {}).get("total", trial.parameters),
                "tokens": last.tokens if last else None,
                "factor": trial.lr_factor,
                "seed": trial.seed,
                "bpb": last.bpb if last else None,
                "status": result.status,
                "reason": result.reason,
            }
        )
    return rows


def _times(factors: Sequence[float]) -> str:
    return ", ".join(f"×{f:g}" for f in factors)
