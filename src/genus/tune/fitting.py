"""Fit: one model trained on some of the rows, judged on others."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from genus.objectives.batch import Batch
from genus.objectives.objective import Objective
from genus.parts.model import Model
from genus.prepare.records import Record
from genus.recipes.parametrisation import Parametrisation, Scale
from genus.recipes.recipe import Recipe
from genus.recipes.training import AdamW, Training, WarmupStableDecay
from genus.run import Run
from genus.train import checkpoint
from genus.train.machine import compute_dtype, default_device
from genus.train.trainer import BEST, Budget, Plan, Trainer
from genus.tune import linear_start
from genus.tune.base import Base
from genus.tune.defaults import Pace, mixing_rates, pace
from genus.tune.examples import Batches, Examples, by_length, lengths_of
from genus.tune.methods import Method, trainable
from genus.tune.options import TuneOptions
from genus.tune.reading import objective_of, tokens_at_once
from genus.tune.task import Example, Task
from genus.tune.telling import Teller

if TYPE_CHECKING:
    from genus.generate.beam import Beam

EVALUATIONS = (5, 20)  # of a fit, at least and at most; two in each pass over the rows
READ_AT_ONCE = 8192  # tokens of a batch that is only read
TIE = 1e-6  # weight of the loss where two evaluations have the same score
RISE = 0.1  # share of the updates over which the learning rate rises (Devlin et al. 2019)


@dataclass
class Fitted:
    """What a fit gives.

    Attributes:
        model: with the best weights, the method's additions merged. spec: what it was built from. score: the task's primary
            score on the validation rows (NaN without). scores: all of them. history: one dict per evaluation, `step` and scores.
        best: update after which the weights were the best. pace: updates, batch and rate. seconds: of training.
        trainable: parameters that learnt. folder: where the method left what it added.
    """

    model: nn.Module
    spec: Model
    score: float
    scores: dict[str, float]
    pace: Pace
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    seconds: float = 0.0
    trainable: int = 0
    folder: Path | None = None

    @property
    def best_epochs(self) -> float:
        """Passes over the rows after which the weights were the best."""
        return self.pace.epochs * self.best / max(1, self.pace.updates)


def fit(
    base: Base,
    task: Task,
    train: Sequence[Example],
    valid: Sequence[Example],
    method: Method,
    options: TuneOptions,
    seed: int = 0,
    run: Run | None = None,
    *,
    rows: Sequence[Record] = (),
    epochs: float | None = None,
    name: str = "",
    quiet: bool = True,
) -> Fitted:
    """Train a fresh copy of the base on `train`; keep the weights that are the best on `valid`.

    Args:
        valid: empty = train for the whole budget and keep the last weights. rows: the records that `valid` was made of, for
            scores (`Examples` know theirs); without them the loss decides.
        run: where checkpoints and the curve are written, and continued from; None = nowhere that stays.
        epochs: passes, where earlier fits have shown how many are best. name: what the progress line begins with.
    """
    head = task.head(base.recipe.model)
    loader = task.loader(train, 1, base.limit(options), seed)
    steps = pace(base, method, options, max(1, round(loader.steps_per_epoch)), epochs)
    model = base.model(head, seed, steps.dropout, keep=base.same_task(task))
    spec: Model = model.spec  # type: ignore[assignment]
    fresh = head is not None and not base.same_task(task)
    if fresh:
        task.begin(model)
    device = default_device()
    recipe = Recipe(
        base.recipe.name,
        spec,
        objective_of(task, spec, base.tokenizer),
        Training(
            AdamW(weight_decay=0.01, beta2=0.999),
            WarmupStableDecay(RISE, 1 - RISE),
            context=getattr(loader, "length", None) or int(max(lengths_of(train))),
            batch=steps.batch,
        ),
    )
    model.to(device)
    if fresh and base.weights is not None and linear_start.pays(base.recipe.model, recipe.objective):  # type: ignore[arg-type]
        fresh = not linear_start.begin(model, recipe.objective, train)  # type: ignore[arg-type]
    method.apply(model, recipe, base.new)
    rates = dict(method.rates(model))
    for parameter, factor in (task.rates(model) | mixing_rates(model, steps.lr)).items():
        rates[parameter] = rates.get(parameter, 1.0) * factor
    if rates:
        recipe = recipe.replace(training=recipe.training.replace(parametrisation=Rated(tuple(rates.items()))))
    rows = valid.rows if isinstance(valid, Examples) else rows
    with _folder(run, spec) as place:
        trainer = Tuner(recipe, model, train, valid, rows, task, base, place, steps, options, seed, name, quiet)
        trainer.fresh = fresh
        found = checkpoint.complete(place.checkpoints_dir)
        if found:
            trainer.resume()
        begin = time.perf_counter() - trainer.progress.elapsed
        trainer.run()
        trainer.back_to_the_best()
        seconds = time.perf_counter() - begin
        history = [r for r in place.metrics() if r.get("kind") == "eval"]
    best = max(history, key=lambda r: -r["order"], default={})
    learnt = trainable(model)
    if run is not None:
        method.save(model, run.path, base.path, task.problem_name)
    method.finish(model)
    model.eval()
    known = ("kind", "step", "order", "seconds")
    scores = {k: v for k, v in best.items() if k not in known}
    score = scores.get(task.primary, math.nan)
    folder = None if run is None else run.path
    return Fitted(model, spec, score, scores, steps, history, best.get("step", steps.updates), seconds, learnt, folder)


def read(
    model: nn.Module, task: Task, objective: Objective, examples: Sequence[Example], dtype: torch.dtype = torch.float32
) -> list[Any]:
    """What the model gives for each example, in their order."""
    device = next(model.parameters()).device
    found: list[Any] = [None] * len(examples)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for numbers in by_length(examples, READ_AT_ONCE):
            batch = objective.batch([examples[i] for i in numbers]).to(device)
            for i, output in zip(numbers, task.outputs(model, batch, dtype), strict=True):
                found[i] = output
    model.train(was_training)
    return found


def predict(
    model: nn.Module,
    task: Task,
    base: Base,
    examples: Examples,
    dtype: torch.dtype = torch.float32,
    write: bool = True,
    beam: Beam | None = None,
) -> tuple[list[Any], list[Record]]:
    """A prediction for each row of the examples (None for a row without one), and the rows.

    `write`: a task that writes texts writes them, which takes far longer than reading; `beam`: by searching for them.
    """
    rows = examples.rows
    outputs = read(model, task, objective_of(task, model.spec, base.tokenizer), examples, dtype)  # type: ignore[arg-type]
    joined = task.join(rows, examples, outputs, base.tokenizer)
    return task.write(model, rows, joined, base.tokenizer, dtype, beam) if write else joined, rows


class Tuner(Trainer):
    """The trainer, evaluating by the task's score every so many updates and keeping the best weights."""

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        train: Sequence[Example],
        valid: Sequence[Example],
        rows: Sequence[Record],
        task: Task,
        base: Base,
        run: Run,
        steps: Pace,
        options: TuneOptions,
        seed: int,
        name: str,
        quiet: bool,
    ) -> None:
        packed = getattr(recipe.objective, "pack", 0)  # then a row holds as much as is read at once
        at_once = tokens_at_once(recipe.model) // recipe.training.context  # type: ignore[arg-type,attr-defined]
        plan = Plan(
            lr=steps.lr,
            budget=Budget(steps.updates),
            micro=1 if packed else min(steps.batch, max(1, at_once)),
            dtype=compute_dtype(options.dtype, next(model.parameters()).device),
            seed=seed,
            save_every=options.save_every,
            save_steps=options.save_steps,
            patience=options.patience,
        )
        held = Batches(valid, 1) if len(valid) else None
        loader = task.loader(train, steps.batch, recipe.training.context, seed)  # type: ignore[attr-defined]
        super().__init__(recipe, model, loader, held, run, plan, Teller(run, name, task.primary, quiet), lambda x: x)
        self.valid, self.rows, self.task, self.tokenizer = valid, rows, task, base.tokenizer
        wanted = min(max(2 * steps.epochs, EVALUATIONS[0]), EVALUATIONS[1])
        self.every = max(1, round(steps.updates / wanted))
        self.judged = -1
        self.fresh = False  # whether the read-out knows nothing yet

    def _due(self) -> bool:
        return self.progress.step % self.every == 0

    def _seen(self, batch: Batch) -> int:
        """Labels, not tokens."""
        return batch.count

    def _evaluate(self, begin: float) -> None:
        """Scores of the validation rows; without rows their loss."""
        step = self.progress.step
        if self.validation is None or step == self.judged or (step == 0 and self.fresh):
            return
        self.judged = step
        scores = self._scores()
        order = -scores.get(self.task.primary, 0.0) + TIE * min(scores.get("loss", 0.0), 100.0)
        if math.isnan(order):
            order = math.inf
        if order < self.progress.best or not (self.run_dir.checkpoints_dir / BEST).is_file():
            self.progress.best, self.progress.worse = order, 0
            checkpoint.save_weights(self.run_dir.checkpoints_dir / BEST, self.model)
        else:
            self.progress.worse += 1
        self.progress.elapsed = self.progress.evaluated = time.perf_counter() - begin
        self.telemetry.evaluation({"step": step, "seconds": self.progress.elapsed, "order": order, **scores})

    @torch.no_grad()
    def _scores(self) -> dict[str, float]:
        objective: Any = self.recipe.objective
        if self.rows:
            outputs = read(self.model, self.task, objective, self.valid, self.plan.dtype)
            return self.task.score(self.task.join(self.rows, self.valid, outputs, self.tokenizer), self.rows)
        total, count = 0.0, 0
        self.model.eval()
        for numbers in by_length(self.valid, READ_AT_ONCE):
            batch = objective.batch([self.valid[i] for i in numbers]).to(self.device)
            loss, targets = objective.loss(self.model, batch, None, self.plan.dtype)
            total, count = total + float(loss), count + int(targets)
        return {"loss": total / max(1, count), self.task.primary: -total / max(1, count)}

    def back_to_the_best(self) -> None:
        """Put the weights of the best evaluation back."""
        best = self.run_dir.checkpoints_dir / BEST
        if self.validation is not None and self.progress.worse and best.is_file():
            checkpoint.restore_weights(best, self.model)


@dataclass(frozen=True)
class Rated(Parametrisation):
    """A factor on the learning rate of each parameter that is named."""

    rates: tuple[Any, ...] = ()

    def scales(self, model: nn.Module) -> dict[str, Scale]:
        factors: Mapping[str, float] = dict(self.rates)
        return {name: Scale(rate=factors.get(name, 1.0)) for name, _ in model.named_parameters()}


@contextmanager
def _folder(run: Run | None, spec: Model) -> Iterator[Run]:
    """The run, or one that is forgotten."""
    if run is not None:
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="genus-fit-") as folder:
        yield Run.create(Path(folder) / "fit", {})
