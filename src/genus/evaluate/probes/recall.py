"""Multi-query associative recall: how many pairs can an architecture keep in its state?

Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models" (2023): pairs of a key and a value, then the
keys again in another order, each to be followed by its value. Attention keeps all pairs, at a cost that grows with them; a
state of a constant size must run full. So the accuracy stands beside the bytes of the state.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genus.evaluate.probes.learning import learn
from genus.evaluate.probes.result import Curve, ProbeResult
from genus.evaluate.probes.small import describe, small
from genus.evaluate.probes.task import Sample, Task
from genus.recipes.recipe import Recipe

PAIRS = (2, 4, 8, 16, 32)
SYMBOLS = 32  # different keys, and as many values
POSITIONS = 1024  # of a batch
TESTED = 512  # answers that a level is measured on


class Recall(Task):
    """`pairs` pairs of a key and a value, then every key once more with its value; the second values are asked for."""

    vocab = 1 + 2 * SYMBOLS

    def __init__(self, pairs: tuple[int, ...] = PAIRS) -> None:
        self.pairs = pairs
        self.levels = tuple(map(str, pairs))
        self.length = 4 * max(pairs)

    def batch(self, rng: np.random.Generator) -> Sample:
        """All rows of a batch have as many pairs."""
        pairs = int(rng.choice(self.pairs))
        return rows(rng, max(1, POSITIONS // (4 * pairs)), pairs)

    def test(self, level: str) -> Sample:
        return rows(np.random.default_rng([7, int(level)]), TESTED // int(level), int(level))


def rows(rng: np.random.Generator, count: int, pairs: int, symbols: int = SYMBOLS) -> Sample:
    """(count, 4 * pairs) symbols. Keys of a row are all different; values may repeat."""
    keys = rng.permuted(np.tile(np.arange(symbols), (count, 1)), axis=1)[:, :pairs] + 1
    values = rng.integers(symbols, size=(count, pairs)) + 1 + SYMBOLS
    order = rng.permuted(np.tile(np.arange(pairs), (count, 1)), axis=1)
    shown = np.stack([keys, values], axis=2)
    again = np.take_along_axis(shown, order[..., None], axis=1)
    tokens = np.concatenate([shown, again], axis=1).reshape(count, 4 * pairs)
    asked = np.zeros_like(tokens, dtype=bool)
    asked[:, 2 * pairs + 1 :: 2] = True
    return Sample(tokens, asked)


def recall(recipe: str | Recipe, seconds: float, seed: int = 0, updates: int | None = None) -> ProbeResult:
    """Train on 2 to 32 pairs, mixed, and measure each number of pairs."""
    task = Recall()
    chosen = small(recipe, task.vocab, task.length)
    learned = learn(chosen, task, seconds, seed, updates)
    score, loss = learned.mean()
    along = learned.curve("recalled", "loss (nats)")
    points = [learned.last(level) for level in task.levels]
    sizes = Curve.judge(
        "pairs of key and value", task.pairs, "recalled", [p[0] for p in points], "loss (nats)", [p[1] for p in points]
    )
    state = {n: state_bytes(learned.model, 4 * n) for n in (task.pairs[0], task.pairs[-1])}
    return ProbeResult(
        "recall",
        "train",
        describe(chosen),
        score,
        "recalled, mean of all",
        loss,
        "loss (nats)",
        {
            f"recalled, {task.levels[-1]} pairs": points[-1][0],
            **{f"bytes of state, {n} pairs": size for n, size in state.items()},
            "updates": learned.updates[-1],
        },
        tuple(c for c in (along, sizes) if c),
        f"{SYMBOLS} keys, {SYMBOLS} values, {POSITIONS:,} symbols an update; guessing: {1 / SYMBOLS:.3f}",
        notes=tuple(learned.notes),
        seconds=learned.seconds,
    )


def state_bytes(model: object, length: int) -> int:
    """Bytes that a model keeps of one row of `length` positions in float32: those of `init_state`."""
    state = model.init_state(1, length, torch.float32)  # type: ignore[attr-defined]

    def count(value: object) -> int:
        if isinstance(value, Tensor):
            return value.numel() * value.element_size()
        if isinstance(value, dict):
            return sum(map(count, value.values()))
        return sum(map(count, value)) if isinstance(value, list | tuple) else 0

    return count(state["layers"])
