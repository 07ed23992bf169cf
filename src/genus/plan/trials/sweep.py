"""A sweep: many trials, the cheapest first, so that what is learnt from the small ones decides about the large ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from genus.plan.machine.cost import trajectory_tokens
from genus.plan.trials.runners import Runner
from genus.plan.trials.trial import Result, Trial

FASTEST = 0.5  # of a predicted duration: that a small trial was faster still is not trusted for a large one

OnResult = Callable[[Result], Iterable[str] | None]


@dataclass
class Sweep:
    """What became of the trials that were asked for.

    Attributes:
        results: in the order in which they came, stored ones first. skipped: left out because `on_result` said so.
        late: not begun, because they would not have ended before the deadline. wall: seconds per trial key, of those run now.
    """

    results: list[Result] = field(default_factory=list)
    skipped: list[Trial] = field(default_factory=list)
    late: list[Trial] = field(default_factory=list)
    wall: dict[str, float] = field(default_factory=dict)


def sweep(
    trials: Iterable[Trial],
    runner: Runner,
    folder: str | Path,
    on_result: OnResult | None = None,
    deadline: float | None = None,
    seconds: Callable[[Trial], float] | None = None,
    turn: Callable[[Trial], int] | None = None,
) -> Sweep:
    """Run what has no stored result yet. An interrupt or an error ends the workers and leaves every result on disk.

    Args:
        on_result: told each result as it comes; returns the keys and recipes that need not be run any more (which replaces
            what it returned before), or None for no change.
        deadline: on the clock of `time.monotonic`; no trial begins that is predicted to end after it. What runs is not cut off.
        turn: trials of a lower turn come first, whatever they cost.
        seconds: predicts the duration of a trial; None = proportional to its operations. Corrected by those that have ended.
    """
    wanted = {trial.key: trial for trial in trials}
    price = {key: (seconds or operations)(trial) for key, trial in wanted.items()}
    waiting = [wanted[key] for key in sorted(wanted, key=lambda k: (turn(wanted[k]) if turn else 0, price[k]))]
    done, skip = Sweep(), frozenset[str]()

    def tell(result: Result) -> None:
        nonlocal skip
        done.results.append(result)
        if on_result is not None:
            said = on_result(result)
            skip = skip if said is None else frozenset(said)

    for trial in list(waiting):
        stored = Result.read(trial, folder)
        if stored is not None:
            waiting.remove(trial)
            tell(stored)

    begun: dict[str, float] = {}
    pace = _Pace(price, seconds is not None)

    def draw() -> Iterator[Trial]:
        while True:
            now = time.monotonic()
            free = [t for t in waiting if t.key not in skip and t.recipe not in skip]
            fits = [t for t in free if deadline is None or now + pace.predict(t) <= deadline]
            if not fits or (deadline is not None and now >= deadline):
                return
            waiting.remove(fits[0])
            begun[fits[0].key] = now
            yield fits[0]

    with closing(runner.run(draw(), folder)) as arriving:
        for result in arriving:
            done.wall[result.key] = time.monotonic() - begun[result.key]
            pace.learn(result, done.wall[result.key])
            tell(result)
    for trial in waiting:
        dropped = trial.key in skip or trial.recipe in skip
        (done.skipped if dropped else done.late).append(trial)
    return done


def operations(trial: Trial) -> float:
    """Training operations of a whole trial; of a counted one, its tokens: they cost next to nothing."""
    from genus.plan.branches import branch
    from genus.plan.machine.costs import BACKWARD
    from genus.plan.trials.trajectory import settle
    from genus.prepare.dataset import Dataset

    if branch(trial.recipe).kind == "counted":
        return float(sum(trial.horizons))
    try:
        data = Dataset.open(trial.data)
        recipe, _ = settle(trial, data.vocab_size, data.split("train").tokens)
    except ValueError:  # the trial itself will say so, at once
        return 0.0
    return (1 + BACKWARD) * recipe.model.flops(0, trial.context) * trajectory_tokens(trial.horizons)


class _Pace:
    """Corrects predicted durations by measured ones: a factor for each recipe, and what every trial takes to start."""

    def __init__(self, price: Mapping[str, float], absolute: bool) -> None:
        self.price = price
        self.least = FASTEST if absolute else 0.0
        self.factors: dict[str, float] = {}
        self.overhead = 0.0

    def learn(self, result: Result, wall: float) -> None:
        if result.status != "done":
            return
        factor = result.seconds / max(self.price[result.key], 1e-9)
        self.factors[result.trial.recipe] = max(factor, self.least)  # the newest is the largest
        self.overhead = max(self.overhead, wall - result.seconds)

    def predict(self, trial: Trial) -> float:
        """Seconds; without a prediction in seconds, 0 until something has ended."""
        other = max([*self.factors.values(), 1.0 if self.least else 0.0])
        return self.overhead + self.factors.get(trial.recipe, other) * self.price[trial.key]
