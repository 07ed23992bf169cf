"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genus.objectives.batch import Batch
from genus.ops import native
from genus.parts.model import forget_history
from genus.recipes.recipe import Recipe
from genus.recipes.training import Training
from genus.run import Run
from genus.train import checkpoint, optimizer
from genus.train.average import Average
from genus.train.compiled import compiled
from genus.train.figures import Figures
from genus.train.guard import Guard
from genus.train.loader import Loader, Streams
from genus.train.machine import peak_memory_mb, seed
from genus.train.telemetry import Telemetry

BEST = "best.safetensors"  # among the checkpoints: the weights to go back to when a run stops early
LOG_EVERY = 1.0  # seconds between lines of metrics.jsonl


@dataclass
class Budget:
    """When a run ends: after `steps` updates, or after `seconds` of training."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: int, elapsed: float) -> float:
        """Share of the budget that is used, 0 to 1."""
        if self.steps is not None:
            return step / max(1, self.steps)
        return elapsed / (self.seconds or 1.0)


@dataclass
class Plan:
    """Everything the loop needs besides model and data.

    Attributes:
        lr: peak learning rate. micro: rows per forward pass. warmup: updates it takes to rise; None = the schedule's share.
        eval_every, save_every: seconds; patience: evaluations without a better loss before the run ends (0 = never).
        eval_steps: validation batches of one evaluation. save_steps: also save every so many updates.
        average: the weights in the end are the mean over so many points of the last part of the run; 0 = those of the end.
    """

    lr: float
    budget: Budget
    micro: int
    dtype: torch.dtype = torch.float32
    seed: int = 0
    warmup: int | None = None
    eval_every: float = 60.0
    eval_steps: int = 8
    save_every: float = 300.0
    save_steps: int | None = None
    patience: int = 0
    compile: bool = False
    average: int = 0


@dataclass
class Progress:
    """Counters that a checkpoint keeps."""

    step: int = 0
    tokens: int = 0
    elapsed: float = 0.0
    best: float = math.inf
    worse: int = 0
    evaluated: float = 0.0
    reserve: float = 0.0
    guard: dict[str, Any] = field(default_factory=dict)


class Told(NamedTuple):
    """What an update was: the sum of its losses, the norm of its gradients, its learning rate, and how many targets it had."""

    loss: float
    norm: float
    rate: float
    targets: int


class Trainer:
    """Trains one model on one split until the budget is used.

    Args:
        validation: a loader of fixed rows, or None for no evaluation.
        bits: function from nats per token on the validation split to bits per byte; used where the loss is a likelihood.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: torch.nn.Module,
        data: Loader,
        validation: Loader | None,
        run: Run,
        plan: Plan,
        telemetry: Telemetry,
        bits: Callable[[float], float],
    ) -> None:
        if not isinstance(recipe.training, Training):
            raise ValueError(f"{recipe.name} is counted, not descended")
        self.recipe, self.training = recipe, recipe.training
        self.model, self.data, self.validation = model, data, validation
        self.run_dir, self.plan, self.telemetry, self.bits = run, plan, telemetry, bits
        self.device = next(model.parameters()).device
        self.parameters = [p for p in model.parameters() if p.requires_grad]  # looking for them takes longer than forgetting them
        self.optimizers = optimizer.build(self.training.optimizer, model, plan.lr, self.training.parametrisation)  # type: ignore[arg-type]
        self.loss: Callable[..., tuple[Tensor, Tensor]] = recipe.objective.loss  # type: ignore[attr-defined]
        if plan.compile:
            if self.device.type == "cpu" and not native.reason("products"):
                telemetry.say("--compile: the kernels in C do not run in compiled code; without it training is probably faster")
            self.loss = compiled(self.loss, telemetry.say)
        self.progress = Progress()
        self.guard = Guard()
        self.late = self.device.type != "cpu" and optimizer.fused(self.optimizers)
        self.unread: tuple[int, Figures, float, int] | None = None
        self.last = Told(math.nan, math.nan, 0.0, 1)
        self.carried: dict[str, Any] | None = None
        self.average = Average(run.checkpoints_dir, plan.average) if plan.average > 1 else None

    # -- the loop ---------------------------------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train until the budget is used; saves first, evaluates after. Returns the final counters."""
        begin = time.perf_counter() - self.progress.elapsed
        saved = logged = time.perf_counter()
        logged_tokens = self.progress.tokens
        if self.progress.step == 0:
            self._evaluate(begin)
        while not self._finished():
            self.launch()
            now = time.perf_counter()
            self._keep_for_average(now - begin)
            self.progress.elapsed = now - begin
            step = self.progress.step
            if now - logged >= LOG_EVERY or step == 1 or self._finished():
                self._settle()
                speed = (self.progress.tokens - logged_tokens) / max(now - logged, 1e-9)
                loss, norm, rate, count = self.last
                self._log(loss / count, norm, rate, speed)
                logged, logged_tokens = now, self.progress.tokens
            due = self._due()
            if now - saved >= self.plan.save_every or (self.plan.save_steps and step % self.plan.save_steps == 0):
                self.save()
                saved = time.perf_counter()
            if due and not self._finished():
                self._evaluate(begin)
                logged, logged_tokens = time.perf_counter(), self.progress.tokens
                if self.plan.patience and self.progress.worse >= self.plan.patience:
                    self.telemetry.event(step, f"no better validation loss in {self.plan.patience} evaluations: stopping early")
                    break
        self.save()
        self._evaluate(begin)
        if self.plan.patience and self.progress.worse and (self.run_dir.checkpoints_dir / BEST).is_file():
            checkpoint.restore_weights(self.run_dir.checkpoints_dir / BEST, self.model)
            self.telemetry.event(self.progress.step, "the weights with the best validation loss are kept")
            self._evaluate(begin)
        elif self.average is not None:
            points = [*self.average.apply(self.model), self.progress.step]
            told = ", ".join(f"{step:,}" for step in points)
            self.telemetry.event(self.progress.step, f"the mean of the weights after {told} updates is kept")
            self._evaluate(begin)
        self.progress.elapsed = time.perf_counter() - begin
        self.telemetry.close()
        return self.progress

    def _keep_for_average(self, elapsed: float) -> None:
        """Keep the weights where the run has come past one of the points of the mean."""
        if self.average is None:
            return
        budget, step = self.plan.budget, self.progress.step
        if self.average.due(budget.progress(step - 1, self.progress.elapsed), budget.progress(step, elapsed)):
            self.average.take(step, self.model)

    def _due(self) -> bool:
        """Whether it is time to evaluate."""
        return self.progress.elapsed - self.progress.evaluated >= self.plan.eval_every

    def _finished(self) -> bool:
        if self.plan.budget.seconds is not None:  # the last evaluation is part of the budget: leave room for it
            return self.progress.elapsed + self.progress.reserve >= self.plan.budget.seconds
        return self.plan.budget.progress(self.progress.step, self.progress.elapsed) >= 1

    # -- one update -------------------------------------------------------------------------------------------------------

    def update(self) -> Told:
        """One optimiser step over `batch` rows in pieces of `micro`: sums of losses, divided once by all targets."""
        self.launch()
        self._settle()
        return self.last

    def launch(self) -> None:
        """An update; where a device computes it, the update before is read meanwhile, and this one is not waited for."""
        step = self.progress.step
        seed(self.plan.seed * 1_000_003 + step, self.device)  # dropout of step n is the same after any resume
        rate = self.plan.lr * self._factor()
        optimizer.set_rate(self.optimizers, rate)
        batch = self._batch(self.data, step)
        count, seen = batch.count, self._seen(batch)
        batch = batch.to(self.device)
        divisor = len(batch.targets) if self.training.sum_over_time else max(1, count)
        if not self.model.training:
            self.model.train()
        state = self._stream_state(step)
        losses = []
        for piece in batch.split(self._rows_at_once(batch) if state is None else len(batch.targets)):
            loss, _ = self.loss(self.model, piece, state, self.plan.dtype)
            (loss / divisor).backward()
            losses.append(loss.detach())
        if state is not None:
            self.carried = forget_history(state)
        norm = optimizer.gradient_norm(self.parameters)
        clip = self.training.clip
        scale = (norm / clip).clamp(min=1.0) if clip else torch.ones_like(norm)
        figures = Figures(losses, norm)
        self._settle()
        self.unread = step, figures, rate, max(1, count)
        if self.late:
            optimizer.step(self.optimizers, scale, figures.refused(self.guard.limit))
        elif self._settle():
            optimizer.step(self.optimizers, scale)
        for p in self.parameters:
            p.grad = None
        self.progress.step += 1
        self.progress.tokens += seen

    def _settle(self) -> bool:
        """Read what the newest update tells, unless that has been done. Whether it was accepted.

        Raises:
            FloatingPointError: too many in a row were not.
        """
        if self.unread is None:
            return True
        (step, figures, rate, count), self.unread = self.unread, None
        loss, norm = figures.read()
        self.last = Told(loss, norm, rate, count)
        reason = self.guard.check(loss, norm)
        if reason is not None:
            self.carried = None
            self.telemetry.event(step, f"update refused: {reason}")
        return reason is None

    def _rows_at_once(self, batch: Batch) -> int:
        """Rows of one forward pass: `micro` of the full context, more of shorter ones."""
        longest = max(ids.shape[1] for ids in (batch.inputs, batch.source) if ids is not None)
        return max(1, self.plan.micro * self.training.context // longest)

    def _seen(self, batch: Batch) -> int:
        """What the progress counts of a batch."""
        return batch.tokens

    def _factor(self) -> float:
        step, rise, steps = self.progress.step, self.plan.warmup, self.plan.budget.steps
        share = None if rise is None else rise / steps if steps else 0.0
        passes = step / self.data.steps_per_epoch
        now = self.training.schedule.moment(self.plan.budget.progress(step, self.progress.elapsed), passes, share)
        if rise:  # the same for runs of every length, which may then share their beginning
            now = replace(now, risen=step / rise)
        return self.training.schedule.at(now)

    def _batch(self, data: Loader, step: int) -> Batch:
        rows = data(step)
        seed = 0 if data is self.validation else self.plan.seed  # validation: the same masks in every run
        generator = torch.Generator().manual_seed(seed * 7919 + step)
        batch: Batch = self.recipe.objective.batch(rows, generator, stream=isinstance(data, Streams))  # type: ignore[attr-defined]
        return batch

    def _stream_state(self, step: int) -> dict[str, Any] | None:
        """What recurrent layers carry into this batch; None when rows are independent windows."""
        if not isinstance(self.data, Streams):
            return None
        if self.carried is None or self.data.restarts(step):
            self.carried = self.model.init_state(self.data.batch, 0, self.plan.dtype, self.device)  # type: ignore[operator]
        return self.carried

    # -- evaluation, saving, logging --------------------------------------------------------------------------------------

    def validate(self) -> list[tuple[float, int]]:
        """Sum of the losses and number of targets of each batch of the fixed validation rows."""
        return [found["loss"] for found in self.measure()]

    @torch.no_grad()
    def measure(self) -> list[dict[str, tuple[float, int]]]:
        """What the objective tells of each batch of the fixed validation rows: sums and counts by name."""
        assert self.validation is not None
        self.model.eval()
        found = []
        state = None
        for step in range(self.plan.eval_steps):
            if isinstance(self.validation, Streams) and (state is None or self.validation.restarts(step)):
                state = self.model.init_state(self.validation.batch, 0, self.plan.dtype, self.device)  # type: ignore[operator]
            batch = self._batch(self.validation, step).to(self.device)
            each = self.recipe.objective.measure(self.model, batch, state, self.plan.dtype)  # type: ignore[attr-defined]
            state = None if state is None else forget_history(state)
            found.append(each)
        return [{name: (float(total), int(count)) for name, (total, count) in each.items()} for each in found]

    def _evaluate(self, begin: float) -> None:
        """Loss on the fixed validation rows."""
        if self.validation is None:
            return
        start = time.perf_counter()
        found = self.measure()
        count = sum(each["loss"][1] for each in found)
        told = {name: sum(e[name][0] for e in found) / max(1, sum(e[name][1] for e in found)) for name in found[0]}
        loss, progress = told["loss"], self.progress
        if self.recipe.objective.likelihood:  # type: ignore[attr-defined]
            told["bpb"] = self.bits(loss)
        if loss < progress.best:
            progress.best, progress.worse = loss, 0
            if self.plan.patience:
                checkpoint.save_weights(self.run_dir.checkpoints_dir / BEST, self.model)
        else:
            progress.worse += 1
        now = time.perf_counter()
        progress.elapsed = progress.evaluated = now - begin
        progress.reserve = max(progress.reserve, now - start)
        record = {"step": progress.step, "tokens": progress.tokens, "seconds": progress.elapsed, "split": "validation"}
        self.telemetry.evaluation({**record, **told, "targets": count})

    def save(self) -> None:
        """Write a checkpoint."""
        self._settle()
        self.progress.guard = self.guard.state()
        counters = {k: v for k, v in vars(self.progress).items() if k != "step"}
        counters["best"] = None if math.isinf(self.progress.best) else self.progress.best
        folder = self.run_dir.checkpoints_dir
        checkpoint.save(folder, self.progress.step, self.model, self.optimizers, self.carried, counters)

    def resume(self) -> bool:
        """Go back to the newest complete checkpoint. False when there is none."""
        self.unread = None
        found = checkpoint.complete(self.run_dir.checkpoints_dir)
        if not found:
            self.run_dir.forget_metrics_after(-1)
            if self.average is not None:
                self.average.clear()
            return False
        self.carried, counters = checkpoint.restore(found[-1], self.model, self.optimizers)
        counters["best"] = math.inf if counters["best"] is None else counters["best"]
        self.progress = Progress(**counters)
        self.guard = Guard(**self.progress.guard)
        self.run_dir.forget_metrics_after(self.progress.step)
        if self.average is not None:
            self.average.forget_after(self.progress.step)
        self.telemetry.event(self.progress.step, f"continued from {found[-1].name}")
        return True

    def _log(self, loss: float, norm: float, rate: float, speed: float) -> None:
        p = self.progress
        share = self.plan.budget.progress(p.step, p.elapsed)
        if self.plan.budget.seconds is not None:
            remaining = self.plan.budget.seconds - p.elapsed
        else:
            remaining = p.elapsed / share * (1 - share) if share else 0.0
        record = {"step": p.step, "tokens": p.tokens, "seconds": p.elapsed, "loss": loss, "lr": rate, "grad_norm": norm}
        self.telemetry.training({**record, "tokens_per_s": speed, "rss_mb": peak_memory_mb()}, share, remaining)
