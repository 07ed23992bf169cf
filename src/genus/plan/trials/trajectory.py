"""A descended trial: one warm-up–stable–decay trajectory that gives a point at every horizon.

The learning rate rises, stays, and falls to zero over the last fifth of a run (Hu et al. 2024, MiniCPM, section 4; Hägele et al.
2024). So runs of every length are the same run until they decay. This trunk is trained once; where a horizon's decay begins,
the state is saved, the decay is trained and measured, and the trunk goes on from the saved state. The weights at each horizon
are, bit for bit, those of a straight `genus train` with `train_options(trial, horizon, ...)`.

For this the warm-up must not depend on the horizon: its number of updates is that of `genus train` for the shortest one.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn import Module

from genus.plan.machine.costs import BACKWARD, parameters
from genus.plan.trials.trial import Point, Result, Trial, peak_memory
from genus.prepare.dataset import Dataset
from genus.recipes import find
from genus.recipes.recipe import Recipe
from genus.recipes.training import WarmupStableDecay
from genus.run import Run, write_atomic
from genus.train import choose
from genus.train.options import TrainOptions
from genus.train.start import assemble, warmup_updates
from genus.train.take_up import take_up
from genus.train.telemetry import Telemetry
from genus.train.trainer import Budget, Trainer

PARTIAL = "points.json"  # what a killed trial had measured
RECENT = 20  # updates whose mean loss is watched
REFUSED = 0.05  # share of refused updates from which a trial has diverged


class Diverged(Exception):
    """The run is not worth going on with; says why."""


def settle(trial: Trial, vocab: int, tokens: int) -> tuple[Recipe, TrainOptions]:
    """The recipe in its shape, and the options that `genus train` would need for the longest horizon.

    Args:
        vocab, tokens: of the data's vocabulary and training split.

    Raises:
        ValueError: no such shape, or a schedule whose trunk cannot be shared.
    """
    options = _wishes(trial)
    choice = choose.choose(find(trial.recipe).name, options, vocab, tokens, math.nan, lambda _: None)
    training: Any = choice.recipe.training
    if not isinstance(training.schedule, WarmupStableDecay):
        raise ValueError(f"a trial needs the schedule WarmupStableDecay, not {type(training.schedule).__name__}")
    warmup = warmup_updates(training, updates(choice.recipe, trial.horizons[0]))
    return choice.recipe, replace(options, lr=choice.lr * trial.lr_factor, warmup=warmup or None)


def train_options(trial: Trial, horizon: int, data: Dataset) -> TrainOptions:
    """Options with which `genus train` gives the point at `horizon` as a straight run."""
    _, options = settle(trial, data.vocab_size, data.split("train").tokens)
    return replace(options, tokens=horizon)


def continued(trial: Trial, data: Dataset) -> tuple[Recipe, TrainOptions, Module]:
    """As `settle`, of a model that is trained further, and that model.

    Raises:
        ValueError: it was made for another tokenizer, or is not a language model that descends.
    """
    options = replace(_wishes(trial), parameters=None)
    recipe, model, _ = take_up(Path(trial.base), data, options, lambda _: None)
    warmup = warmup_updates(recipe.training, updates(recipe, trial.horizons[0]))  # type: ignore[arg-type]
    lr = choose.rate(recipe, options, lambda _: None) * trial.lr_factor
    return recipe, replace(options, lr=lr, warmup=warmup or None), model


def _wishes(trial: Trial) -> TrainOptions:
    """What a trial says of its longest run, before the rate and the warm-up are known."""
    return TrainOptions(
        parameters=trial.parameters,
        tokens=trial.horizons[-1],
        batch=trial.batch,
        context=trial.context,
        schedule="wsd",
        seed=trial.seed,
        dtype=trial.dtype,  # type: ignore[arg-type]
        eval_tokens=trial.eval_tokens,
        overrides=trial.overrides,
    )


def updates(recipe: Recipe, tokens: int) -> int:
    """Updates that make about `tokens`, as `genus train` counts them."""
    steps = choose.budget(recipe, TrainOptions(tokens=tokens), tokens, lambda _: None).steps
    assert steps is not None
    return steps


def measure(trial: Trial, data: Dataset, place: Path) -> Result:
    """Run the trajectory in the folder `place`, going on from what is there."""
    return _Trajectory(trial, data, place).run()


class _Trajectory:
    def __init__(self, trial: Trial, data: Dataset, place: Path) -> None:
        self.trial, self.place = trial, place
        self.begin = time.perf_counter()
        self.corpus = data.split("train").tokens
        model: Module | None = None
        if trial.base:
            self.recipe, self.options, model = continued(trial, data)
        else:
            self.recipe, self.options = settle(trial, data.vocab_size, self.corpus)
        self.flops = (1 + BACKWARD) * self.recipe.model.flops(0, trial.context)
        self.steps = [updates(self.recipe, h) for h in trial.horizons]
        if len(set(self.steps)) < len(self.steps):
            least = trial.batch * trial.context
            raise ValueError(f"horizons lie closer than one update of {least:,} tokens; choose fewer, or a smaller batch")
        run = Run(place, {"lr": self.options.lr, "steps": self.steps[-1], "seconds": None})
        telemetry = Telemetry(run, 1.0, 1.0, self.flops, quiet=True)
        self.trainer: Trainer = assemble(run, data, self.recipe, self.options, telemetry, model)
        if self.trainer.validation is None:
            raise ValueError(f"{trial.data} has no validation split to measure on; prepare it again with --validation 0.05")
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.initial = math.nan
        self.before = 0.0  # seconds of attempts that were killed
        self.points: list[Point] = []

    def run(self) -> Result:
        self._go_on()
        status, reason = "done", ""
        try:
            if math.isnan(self.initial):
                self.initial, _ = self._validate()
                if not math.isfinite(self.initial):
                    raise Diverged(f"the loss is {self.initial} before the first update")
                self._keep()
            for steps in self.steps[len(self.points) :]:
                self._branch(steps)
        except (Diverged, FloatingPointError) as error:
            status, reason = "diverged", str(error).partition(";")[0]
        counts = asdict(parameters(self.recipe.model))
        last = self.points[-1] if self.points else None
        return Result(
            self.trial,
            status,
            reason,
            tuple(self.points),
            counts,
            self.options.lr,
            self.initial,
            self.trainer.guard.total,
            peak_memory(),
            last.tokens / last.seconds if last else 0.0,
            self.before + time.perf_counter() - self.begin,
        )

    def _branch(self, steps: int) -> None:
        """Train the trunk up to where a run of `steps` updates decays, then the decay; measure; go back."""
        trainer = self.trainer
        decay: WarmupStableDecay = self.recipe.training.schedule  # type: ignore[attr-defined]
        fork = math.floor((1 - decay.decay) * steps)
        self._advance(fork)
        last = steps == self.steps[-1]
        if not last:
            trainer.save()
        trainer.plan.budget = Budget(steps=steps)
        self._advance(steps)
        loss, error = self._validate()
        if not loss < self.initial:
            raise Diverged(f"loss {loss:.4g} after {trainer.progress.tokens:,} tokens, {self.initial:.4g} before the first")
        if trainer.guard.total > REFUSED * steps:
            raise Diverged(f"{trainer.guard.total} of {steps} updates were refused")
        tokens, bits = trainer.progress.tokens, trainer.bits
        total = self.recipe.parameters_total
        self.points.append(
            Point(
                tokens,
                loss,
                bits(loss),
                trainer.progress.elapsed,
                min(tokens, self.corpus),
                self.flops * tokens,
                None if error is None else bits(error),
                total,
                4 * total,
            )
        )
        self._keep()
        if not last:
            trainer.resume()
            trainer.plan.budget = Budget(steps=self.steps[-1])

    def _advance(self, stop: int) -> None:
        """Update until `stop` updates are done; `elapsed` counts their time alone, as a straight run's would."""
        trainer = self.trainer
        while trainer.progress.step < stop:
            begin = time.perf_counter()
            total, _, _, count = trainer.update()
            trainer.progress.elapsed += time.perf_counter() - begin
            if math.isfinite(total):
                self.recent.append(total / count)
            mean = sum(self.recent) / max(1, len(self.recent))
            if len(self.recent) == RECENT and mean > max(1.05 * self.initial, self.initial + 0.5):
                raise Diverged(
                    f"training loss {mean:.4g} after {trainer.progress.step:,} updates, {self.initial:.4g} before the first"
                )

    def _validate(self) -> tuple[float, float | None]:
        """Nats per token on the fixed rows, and the standard error of this ratio over batches of them (delta method)."""
        sums, counts = np.array(self.trainer.validate(), np.float64).T
        loss = sums.sum() / counts.sum()
        if len(sums) < 2:
            return float(loss), None
        apart = sums - loss * counts
        return float(loss), float(math.sqrt(len(sums) / (len(sums) - 1) * (apart**2).sum()) / counts.sum())

    def _keep(self) -> None:
        seconds = self.before + time.perf_counter() - self.begin
        content = {"initial": self.initial, "seconds": seconds, "points": [asdict(p) for p in self.points]}
        write_atomic(self.place / PARTIAL, json.dumps(content) + "\n")

    def _go_on(self) -> None:
        """Take over what an attempt that was killed had measured, and its newest trunk."""
        file = self.place / PARTIAL
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            self.initial, self.before = content["initial"], content["seconds"]
            self.points = [Point(**p) for p in content["points"]]
        self.trainer.resume()
