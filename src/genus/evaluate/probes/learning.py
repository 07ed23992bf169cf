"""Training a small model on a task for some seconds, and its scores along the way."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genus.evaluate.probes.result import Curve
from genus.evaluate.probes.task import BOS, Task
from genus.parts.ngram import NGram
from genus.recipes.recipe import Recipe
from genus.train import optimizer
from genus.train.kneser_ney import estimate
from genus.train.machine import default_device

CLIP = 1.0
RATIO = 2**0.5  # of updates from one measurement to the next
COUNTED = 2_000_000  # symbols that an n-gram is counted on at most
Point = tuple[float, float]  # score, loss


@dataclass
class Learned:
    """A model after training, and what it reached along the way.

    Attributes:
        updates: at which it was measured. trace: (score, loss) of each level at each of them. notes: what went wrong.
    """

    model: Any
    updates: list[int] = field(default_factory=list)
    trace: dict[str, list[Point]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def last(self, level: str) -> Point:
        return self.trace[level][-1]

    def mean(self) -> Point:
        """At the end, over the levels."""
        score, loss = np.mean([points[-1] for points in self.trace.values()], axis=0)
        return float(score), float(loss)

    def curve(self, score: str, loss: str, level: str | None = None) -> Curve | None:
        """Along the updates, of one level or of their mean. None where it was measured once."""
        if len(self.updates) < 2:
            return None
        chosen = [self.trace[level]] if level else list(self.trace.values())
        values = np.mean(chosen, axis=0)
        return Curve.judge("updates", self.updates, score, values[:, 0].tolist(), loss, values[:, 1].tolist())


def learn(recipe: Recipe, task: Task, seconds: float, seed: int = 0, updates: int | None = None) -> Learned:
    """Train from nothing until the time is used, measurements included, or for a number of updates.

    The first measurement is after one update, the others a factor of the square root of two apart, and one at the end. With
    `updates` the result depends on the seed alone; with seconds, on the machine's speed as well.

    Raises:
        ValueError: no time.
    """
    if not seconds > 0:
        raise ValueError(f"a probe that trains needs a time, such as 60s, not {seconds:g}")
    if isinstance(recipe.model, NGram):
        return _counted(recipe.model, task, seconds, seed)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = task.build(recipe).to(default_device())
    optimizers = optimizer.build(task.optimizer, model, task.optimizer.lr or 0.0)
    begin = time.perf_counter()  # torch's first optimiser takes seconds to import
    learned = Learned(model, trace={level: [] for level in task.levels})
    tests = {level: task.test(level) for level in task.levels}
    done, due = 0, 1.0
    while True:
        elapsed = time.perf_counter() - begin
        progress = done / updates if updates else elapsed / seconds
        if progress >= 1.0:
            break
        model.train()
        optimizer.set_rate(optimizers, (task.optimizer.lr or 0.0) * max(task.schedule.at(task.schedule.moment(progress)), 1e-3))
        loss = task.loss(model, task.batch(rng))
        if not math.isfinite(float(loss.detach())):
            learned.notes.append(f"diverged after {done:,} updates")
            break
        loss.backward()
        norm = optimizer.gradient_norm(model.parameters())
        optimizer.step(optimizers, (norm / CLIP).clamp(min=1.0))
        model.zero_grad(set_to_none=True)
        done += 1
        if done >= due:
            _measure(learned, task, tests, done)
            due = max(done + 1, due * RATIO)
    if not learned.updates and not learned.notes:
        raise ValueError(f"{seconds:g} s are not enough for one update; give the probe more time")
    if not learned.updates or (learned.updates[-1] != done and not learned.notes):  # what diverged keeps its last measurement
        _measure(learned, task, tests, done)
    learned.seconds = time.perf_counter() - begin
    return learned


@torch.no_grad()
def _measure(learned: Learned, task: Task, tests: dict[str, Any], done: int) -> None:
    learned.model.eval()
    learned.updates.append(done)
    for level, sample in tests.items():
        learned.trace[level].append(task.measure(learned.model, sample))


def _counted(spec: NGram, task: Task, seconds: float, seed: int) -> Learned:
    """An n-gram counted on rows of the task. There is nothing along the way."""
    begin = time.perf_counter()
    rows = _Rows(task, seconds / 2, seed)
    with tempfile.TemporaryDirectory() as folder:
        model = estimate(rows, spec.order, spec.vocab, BOS, BOS, Path(folder) / "ngram", workers=1)
        learned = Learned(model, [1], {level: [task.measure(model, task.test(level))] for level in task.levels})
    learned.notes.append(f"an n-gram, counted on {rows.tokens:,} symbols")
    learned.seconds = time.perf_counter() - begin
    return learned


class _Rows:
    """Rows of a task as documents."""

    def __init__(self, task: Task, seconds: float, seed: int) -> None:
        rng, begin = np.random.default_rng(seed), time.perf_counter()
        documents: list[np.ndarray] = []
        count = 0
        while count < COUNTED and (not documents or time.perf_counter() - begin < seconds):
            rows = task.batch(rng).tokens
            documents += list(np.concatenate([rows, np.full((len(rows), 1), BOS)], axis=1))
            count += rows.size
        self._stream = np.concatenate(documents).astype(np.uint16)
        self.tokens = len(self._stream)
        self.ends = np.cumsum([len(d) for d in documents])

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._stream[start:stop]
