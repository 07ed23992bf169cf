"""The pilot: before sizes are compared, each branch's learning rate, the noise between seeds, and what diverges.

A published rule for the learning rate was found on other data and other sizes, and a branch with a rate that does not suit it
loses for the wrong reason. So the rule is tried times 1/2, 1 and 2 at the smallest size, and further while the best lies at the
edge; then around what should follow from it at the second-largest size. Taken is where the parabola through the best factor and
its neighbours is lowest, on logarithmic scales; they share a seed, so that most of the noise is common. Sizes between the two
follow a straight line on logarithmic scales; beyond them the best rate falls as the parameters to the power 0.36 (Porian et al.
2024). Longer runs want lower rates too: as the ratio of their tokens to those of the pilot to the power 1/8
(DeepSeek-AI 2024, arXiv:2401.02954, eq. 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genus.plan.branches import branch
from genus.plan.trials.runners import Runner
from genus.plan.trials.sweep import OnResult, operations, sweep
from genus.plan.trials.trial import Result, Trial

FACTORS = (0.5, 1.0, 2.0)
FURTHER = (3, 1)  # steps of two beyond them, at the smallest size and at the second-largest
SEEDS = 3
LARGER, LONGER = 0.36, 0.125  # exponents of parameters and of tokens by which the best rate falls


@dataclass(frozen=True)
class Check:
    """What the pilot says of one recipe.

    Attributes:
        factors: on the recipe's learning rate, by parameters of the sizes that were tried, for runs of `tokens`.
        gain: relative fall of bits per byte that they bring over 1 at the smallest of the sizes. noise: standard deviation of log
            bits per byte between seeds.
        edge: a best factor was the last one tried.
        rows: {"parameters", "tokens", "factor", "seed", "bpb", "status", "reason"} of every run. notes: sentences.
        usable: whether any factor trained the smallest size.
    """

    recipe: str
    factors: dict[int, float] = field(default_factory=dict)
    tokens: float = math.inf
    gain: float = 0.0
    noise: float = 0.0
    edge: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    usable: bool = True

    def at(self, parameters: float, tokens: float | None = None) -> float:
        """The factor for a size and a length."""
        if not self.factors:
            return 1.0
        sizes, logs = np.log(list(self.factors)), np.log(list(self.factors.values()))
        wanted = math.log(max(parameters, 1))
        beyond = wanted - min(max(wanted, sizes[0]), sizes[-1])
        factor = math.exp(np.interp(wanted, sizes, logs) - LARGER * beyond)
        longer = max(1.0, (tokens or 0.0) / self.tokens)
        return float(f"{factor * longer**-LONGER:.3g}")


@dataclass(frozen=True)
class Pilot:
    """A check for each recipe, and the noise between seeds over all of them (standard deviation of log bits per byte)."""

    checks: dict[str, Check]
    noise: float

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
    """Check the recipes of a planned sweep, in turns, so that a short time is shared fairly. What is stored costs nothing.

    Args:
        trials: of the sweep. seeds: of the smallest size; 1 = do not measure the noise. The others are `sweep`'s.
    """
    found: dict[str, Result] = {}

    def run(wanted: Iterable[Trial]) -> None:
        """The first trial of every recipe before the second of any."""
        turns: dict[str, list[str]] = {}
        every = list(wanted)
        for trial in every:
            turns.setdefault(trial.recipe, []).append(trial.key)
        ended = sweep(every, runner, folder, on_result, deadline, seconds, lambda t: turns[t.recipe].index(t.key))
        found.update({r.key: r for r in ended.results})

    def explore(searches: Iterable[_Search], further: int) -> None:
        searches = list(searches)
        run(t for s in searches for t in s.trials())
        for _ in range(further):
            run(t for s in searches for t in s.beyond(found))

    small, large = _sizes(trials)
    explore(small.values(), FURTHER[0])
    again = {name: _seeds(s, found, seeds) for name, s in small.items()}
    run(t for group in again.values() for t in group)
    noises = {name: _noise(group, found) for name, group in again.items()}
    pooled = math.sqrt(float(np.mean([v for vs in noises.values() for v in vs]))) if any(noises.values()) else 0.0
    for name, search in large.items():
        larger = (search.trial.parameters or 1) / (small[name].trial.parameters or 1)
        search.centre = float(f"{(small[name].lowest(found) or 1.0) * larger**-LARGER:.2g}")
    explore([s for name, s in large.items() if small[name].best(found) is not None], FURTHER[1])
    checks = {}
    for name in small:
        searches = [small[name], *([large[name]] if name in large else [])]
        noise = math.sqrt(float(np.mean(noises[name]))) if noises[name] else 0.0
        checks[name] = _judge(name, searches, again[name], found, noise, max(noise, pooled))
    return Pilot(checks, pooled)


@dataclass
class _Search:
    """The best factor for one size. `trial`: of that size, at factor 1; `centre`: where the search begins; `tried`: so far."""

    trial: Trial
    centre: float = 1.0
    tried: list[float] = field(default_factory=list)

    def trials(self) -> Iterator[Trial]:
        """The centre first, in case there is time for nothing else."""
        for step in sorted(FACTORS, key=lambda f: abs(math.log(f))):
            yield self._with(self.centre * step)

    def beyond(self, found: dict[str, Result]) -> Iterator[Trial]:
        """One step further, where the best lies at the edge of what ended."""
        losses = self.losses(found)
        if len(losses) < len(FACTORS):
            return
        factors = list(losses)
        if all(math.isinf(loss) for loss in losses.values()) or self.best(found) == factors[0]:
            yield self._with(factors[0] / 2)
        elif self.best(found) == factors[-1]:
            yield self._with(factors[-1] * 2)

    def best(self, found: dict[str, Result]) -> float | None:
        """The factor with the lowest loss; None when none trained it."""
        finite = {f: loss for f, loss in self.losses(found).items() if math.isfinite(loss)}
        return min(finite, key=lambda f: (finite[f], abs(math.log(f / self.centre)))) if finite else None

    def lowest(self, found: dict[str, Result]) -> float | None:
        """Where the parabola through the best factor and its two neighbours is lowest; the best itself where it has not both."""
        best, losses = self.best(found), self.losses(found)
        factors = list(losses)
        if best is None or best in (factors[0], factors[-1]):
            return best
        near = factors[factors.index(best) - 1 :][:3]
        values = [losses[f] for f in near]
        if not all(map(math.isfinite, values)) or max(values) == min(values):
            return best
        bend, slope, _ = np.polyfit(np.log(near), values, 2)
        return float(f"{math.exp(-slope / (2 * bend)):.3g}")

    def losses(self, found: dict[str, Result]) -> dict[float, float]:
        """The losses of the factors that ended, lowest factor first."""
        return {f: loss for f in sorted(self.tried) if (loss := self.loss(f, found)) is not None}

    def loss(self, factor: float, found: dict[str, Result]) -> float | None:
        """Log bits per byte at the last horizon; infinite where the trial diverged, None where there is none."""
        result = found.get(replace(self.trial, lr_factor=factor).key)
        if result is None or result.status == "failed":
            return None
        return math.log(result.points[-1].bpb) if result.status == "done" else math.inf

    def edge(self, found: dict[str, Result]) -> bool:
        """Whether the best is the last that was tried."""
        ended = list(self.losses(found))
        return len(ended) > 1 and self.best(found) in (ended[0], ended[-1])

    def _with(self, factor: float) -> Trial:
        if factor not in self.tried:
            self.tried.append(factor)
        return replace(self.trial, lr_factor=factor)


def _sizes(trials: Iterable[Trial]) -> tuple[dict[str, _Search], dict[str, _Search]]:
    """Per descended recipe the smallest size and, of three or more, the second-largest, with the shortest horizon of all."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if branch(trial.recipe).kind == "descended":
            groups.setdefault(trial.recipe, []).append(replace(trial, lr_factor=1.0))
    small, large = {}, {}
    for recipe, group in groups.items():
        group.sort(key=lambda t: (t.parameters or 0, operations(t)))
        first = min(t.horizons[0] for t in group)
        small[recipe] = _Search(replace(group[0], horizons=(first,)))
        if len(group) > 2:
            large[recipe] = _Search(replace(group[-2], horizons=(first,)))
    return small, large


def _seeds(search: _Search, found: dict[str, Result], seeds: int) -> list[Trial]:
    """The smallest size at its best factor with several seeds."""
    factor = search.best(found)
    if factor is None or seeds < 2:
        return []
    return [replace(search.trial, lr_factor=factor, seed=search.trial.seed + i) for i in range(seeds)]


def _noise(same: Sequence[Trial], found: dict[str, Result]) -> list[float]:
    """Variances of log bits per byte between seeds, one for each horizon."""
    results = [found.get(t.key) for t in same]
    logs = [[math.log(p.bpb) for p in r.points] for r in results if r is not None and r.status == "done"]
    return np.var(np.array(logs), axis=0, ddof=1).tolist() if len(logs) > 1 else []


def _judge(
    recipe: str, searches: Sequence[_Search], again: Sequence[Trial], found: dict[str, Result], own: float, noise: float
) -> Check:
    rows, notes = _rows(searches, again, found), []
    diverged = sorted({r["factor"] for r in rows if r["status"] == "diverged"})
    if diverged:
        notes.append(f"{recipe}: diverges at {_times(diverged)} its learning rate")
    if searches[0].best(found) is None:
        why = next((r["reason"] for r in rows if r["reason"]), "")
        if not why:
            notes.append(f"{recipe}: its learning rate was not checked, since the time was too short")
            return Check(recipe, noise=own, rows=rows, notes=notes)
        notes.append(f"{recipe}: no learning rate was found that trains it ({why})")
        return Check(recipe, noise=own, rows=rows, notes=notes, usable=False)
    taken = {_parameters(s, found): f for s in searches if (f := s.lowest(found)) is not None}
    edge = any(s.edge(found) for s in searches)
    gain = _gain(searches[0], found)
    if any(f != 1.0 for f in taken.values()):
        each = " and ".join(f"×{f:g} at {n:,} parameters" for n, f in taken.items())
        what = f"{100 * gain:.1f} % fewer bits per byte than ×1 at the smallest" if math.isfinite(gain) else "at ×1 it diverges"
        seeds = f"seeds differ by {100 * noise:.1f} %" if noise else "there was no time to compare seeds"
        notes.append(f"{recipe}: learning rate {each} ({what}; {seeds})")
    if edge:
        notes.append(f"{recipe}: the last factor that was tried is the best; a better one may lie beyond")
    return Check(recipe, taken, searches[0].trial.horizons[0], gain if math.isfinite(gain) else 0.0, own, edge, rows, notes)


def _gain(search: _Search, found: dict[str, Result]) -> float:
    """Relative fall of bits per byte from factor 1 to the best that was tried; infinite where that diverged."""
    best, base = search.best(found), search.loss(1.0, found)
    loss = None if best is None else search.loss(best, found)
    if loss is None or base is None:
        return 0.0
    return math.inf if math.isinf(base) else 1 - math.exp(loss - base)


def _parameters(search: _Search, found: dict[str, Result]) -> int:
    """Of the size, in all."""
    for factor in search.tried:
        result = found.get(replace(search.trial, lr_factor=factor).key)
        if result is not None and result.parameters:
            return result.parameters["total"]
    return search.trial.parameters or 1


def _rows(searches: Sequence[_Search], again: Sequence[Trial], found: dict[str, Result]) -> list[dict[str, Any]]:
    asked = [replace(s.trial, lr_factor=f) for s in searches for f in sorted(s.tried)]
    asked += [t for t in again if t not in asked]
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
