"""A given model trained further as one more contender: does tuning it beat training a new one?

Its size is given, so its loss is a function of the tokens alone. A trial of a few updates shows the speed and which learning rate
suits a model that is already trained (that of a fresh one, or a third of it); one trajectory with several horizons follows. It
runs alone, with all cores, as the run itself would, so its seconds are the run's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genus.plan.branches import Branch
from genus.plan.contender import Contender
from genus.plan.decide import Candidate
from genus.plan.forecast.forecaster import ONE_VARIABLE, Forecast, forecast
from genus.plan.frame import PASSES, Frame
from genus.plan.machine.cost import Array, trajectory_tokens
from genus.plan.machine.costs import rung
from genus.plan.store import Json
from genus.plan.table import Runs
from genus.plan.trials.pilot import Check
from genus.plan.trials.runners import Runner
from genus.plan.trials.trial import Result, Trial
from genus.report.chart import clock, short

NAME = "base"
FACTORS = (1.0, 0.3)  # on the learning rate of a fresh model
UPDATES = 25  # of the shortest horizon
POINTS = (4, 7)  # horizons, each twice as long: least and most

Say = Callable[[str], None]


@dataclass(frozen=True)
class FurtherCost:
    """The price of training one given model, from what its trial took. Implements `genus.plan.machine.cost.Cost`."""

    params: float
    per_token: float
    operations: float
    bytes: float
    decode: float

    @property
    def sizes(self) -> Array:
        return np.array([self.params])

    def seconds(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return self.per_token * np.broadcast_arrays(np.asarray(tokens, np.float64), params)[0]

    def flops(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return self.operations * np.broadcast_arrays(np.asarray(tokens, np.float64), params)[0]

    def memory(self, params: ArrayLike) -> Array:
        return np.full(np.shape(params), self.bytes)

    def decode_seconds(self, params: ArrayLike) -> Array:
        return np.full(np.shape(params), self.decode)

    def tokens_per_s(self, params: ArrayLike) -> Array:
        return np.full(np.shape(params), 1 / self.per_token)

    def to_json(self) -> Json:
        return {"kind": "further", **vars(self)}


@dataclass
class Further(Contender):
    """The contender. `training`: `TrainOptions` as JSON of its longest small run."""

    training: Json | None = None

    def trials(self, frame: Frame) -> list[Trial]:
        """None in the sweep: it has been measured by itself."""
        return []

    def runs(self, definition: str) -> Runs:
        rows = [row for r in self.results.values() for row in r.rows()]
        return Runs.from_rows([{**row, "flops": row["tokens"]} for row in rows], self.name)

    def settle(self) -> None:
        """There is one size, however it is counted."""

    def _forecast(self, definition: str) -> Forecast | None:
        try:
            return forecast(self.runs(definition), ONE_VARIABLE)
        except ValueError as error:
            self.reason = str(error)
            return None

    def surface(self, unique: int | None = None) -> Forecast:
        assert self.forecast is not None
        return self.forecast

    def candidate(self, frame: Frame) -> Candidate:
        def train(params: float, tokens: float) -> Json:
            return {**(self.training or {}), "tokens": int(tokens)}

        return replace(super().candidate(frame), base=True, train=train)


def further(base: Path, frame: Frame, runner: Runner, folder: Path, seconds: float, say: Say) -> Further:
    """Measure what training `base` further gives, in about `seconds`.

    A model that cannot be trained on this data (another tokenizer, say) becomes a contender that is refused, with the reason.
    """
    from genus.plan.trials.trajectory import continued
    from genus.prepare.dataset import Dataset

    data: Dataset = frame.data
    branch = Branch(NAME, str(base.resolve()), "descended")
    first = UPDATES * frame.batch * frame.context
    trial = replace(frame.trial(branch, None, (first,)), recipe=NAME, base=branch.recipe, threads=frame.cores, overrides=())
    nothing = FurtherCost(1.0, 1.0, 0.0, 0.0, 0.0)
    made = Further(branch, [], nothing, nothing)
    try:
        recipe, _, model = continued(trial, data)
    except (ValueError, OSError) as error:
        return _left(made, "refused", str(error), say)
    tried = [_one(runner, replace(trial, lr_factor=factor), folder) for factor in FACTORS]
    good = [r for r in tried if r.status == "done"]
    if not good:
        return _left(made, "failed", tried[0].reason, say)
    chosen = min(good, key=lambda r: r.points[0].loss)
    per_token = min(r.points[0].seconds / r.points[0].tokens for r in good)
    horizons = _horizons(first, (seconds - sum(r.seconds for r in tried)) / per_token, PASSES * frame.unique)
    if len(horizons) < POINTS[0]:
        reason = f"{clock(seconds)} of small runs are too short to see what training it further gives; a longer budget would"
        return _left(made, "refused", reason, say)
    result = _one(runner, replace(chosen.trial, horizons=horizons), folder)
    made.results = {result.key: result}
    if result.status != "done":
        return _left(made, "failed", result.reason, say)
    rows = recipe.training.batch  # type: ignore[attr-defined]
    made.rungs = [rung(recipe, 0, frame.context, rows)]
    last = result.points[-1]
    made.large = made.small = FurtherCost(
        float(made.rungs[0].total),
        last.seconds / last.tokens,
        made.rungs[0].training,
        float(result.peak_memory),
        _decode(model, frame.context),
    )
    made.check = Check(NAME, {int(made.rungs[0].total): chosen.trial.lr_factor})
    made.training = continued(result.trial, data)[1].to_json()
    if not made.refit():
        return _left(made, "failed", made.reason, say)
    told = ", ".join(f"{p.bpb:.3f} after {short(p.tokens)}" for p in result.points)
    say(f"base: {_untouched(result):.3f} bits/byte as it is, {told}")
    return made


def _left(made: Further, status: str, reason: str, say: Say) -> Further:
    made.leave(status, reason)
    say(f"base: {reason}")
    return made


def _one(runner: Runner, trial: Trial, folder: Path) -> Result:
    return Result.read(trial, folder) or next(iter(runner.run([trial], folder)))


def _horizons(first: int, tokens: float, most: float) -> tuple[int, ...]:
    """Horizons, each twice the one before, whose trajectory takes at most `tokens`; none longer than `most`."""
    found: Sequence[int] = (first,)
    while len(found) < POINTS[1]:
        longer = (*found, 2 * found[-1])
        if longer[-1] > most or trajectory_tokens(longer) > tokens:
            break
        found = longer
    return tuple(found)


def _untouched(result: Result) -> float:
    """Bits per byte before the first update."""
    point = result.points[0]
    return (result.initial or 0.0) * point.bpb / point.loss


def _decode(model: Any, context: int) -> float:
    """Seconds per generated token."""
    import torch

    from genus.plan.machine.measurement import _decode as measured
    from genus.train.machine import default_device

    device = default_device()
    with torch.inference_mode():
        return measured(model.to(device), context, device)
