"""Addition of numbers of k digits, the sum written plainly or with its last digit first.

Lee et al., "Teaching Arithmetic to Small Transformers" (ICLR 2024): the reversed sum is learnt from far fewer examples, because
each of its digits needs only the carry of the digit before it.
"""

from __future__ import annotations

import numpy as np

from genus.evaluate.probes.learning import learn
from genus.evaluate.probes.result import Curve, ProbeResult
from genus.evaluate.probes.small import describe, small
from genus.evaluate.probes.task import Sample, Task
from genus.recipes.recipe import Recipe

DIGITS = (1, 2, 3, 4)
PLUS, EQUALS = 11, 12  # digits are 1 to 10
ROWS = 128  # of a batch
TESTED = 256  # sums that a level is measured on
HELD_OUT = 8  # one pair of numbers in so many is never trained on


class Addition(Task):
    """`a + b = c` with numbers of k digits, leading zeros kept; the sum has k + 1."""

    vocab = 13
    whole = True

    def __init__(self, reverse: bool, digits: tuple[int, ...] = DIGITS, rows: int = ROWS) -> None:
        self.reverse, self.digits, self.rows = reverse, digits, rows
        self.levels = tuple(map(str, digits))
        self.length = 3 * max(digits) + 3

    def batch(self, rng: np.random.Generator) -> Sample:
        return self._rows(rng, self.rows, int(rng.choice(self.digits)), held_out=False)

    def test(self, level: str) -> Sample:
        return self._rows(np.random.default_rng([11, int(level)]), TESTED, int(level), held_out=True)

    def _rows(self, rng: np.random.Generator, count: int, digits: int, held_out: bool) -> Sample:
        pairs = rng.integers(10**digits, size=(2 * HELD_OUT * count, 2))
        pairs = pairs[((pairs[:, 0] * 7919 + pairs[:, 1] * 104729) // 3 % HELD_OUT == 0) == held_out]
        pairs = np.resize(pairs, (count, 2)) if len(pairs) < count else pairs[:count]
        a, b = pairs.T
        total = written(a + b, digits + 1)
        parts = [written(a, digits), np.full((count, 1), PLUS), written(b, digits), np.full((count, 1), EQUALS)]
        tokens = np.concatenate([*parts, total[:, ::-1] if self.reverse else total], axis=1)
        asked = np.zeros_like(tokens, dtype=bool)
        asked[:, -digits - 1 :] = True
        return Sample(tokens, asked)


def written(numbers: np.ndarray, digits: int) -> np.ndarray:
    """(count, digits) symbols, the highest digit first."""
    return numbers[:, None] // 10 ** np.arange(digits - 1, -1, -1) % 10 + 1


def _probe(name: str, reverse: bool, recipe: str | Recipe, seconds: float, seed: int, updates: int | None) -> ProbeResult:
    task = Addition(reverse)
    chosen = small(recipe, task.vocab, task.length)
    learned = learn(chosen, task, seconds, seed, updates)
    score, loss = learned.mean()
    points = [learned.last(level) for level in task.levels]
    sizes = Curve.judge(
        "digits of each number", task.digits, "right", [p[0] for p in points], "loss (nats per digit)", [p[1] for p in points]
    )
    along = learned.curve("right", "loss (nats per digit)")
    return ProbeResult(
        name,
        "train",
        describe(chosen),
        score,
        "sums wholly right, mean",
        loss,
        "loss (nats per digit)",
        {
            **{f"right, {level} digit{'s' if level > '1' else ''}": p[0] for level, p in zip(task.levels, points, strict=True)},
            "updates": learned.updates[-1],
        },
        tuple(c for c in (along, sizes) if c),
        f"numbers of {DIGITS[0]} to {DIGITS[-1]} digits, the sum's {'last' if reverse else 'first'} digit first, {ROWS} sums an "
        f"update; one pair in {HELD_OUT} is held out and measured",
        notes=tuple(learned.notes),
        seconds=learned.seconds,
    )


def addition(recipe: str | Recipe, seconds: float, seed: int = 0, updates: int | None = None) -> ProbeResult:
    """The sum's first digit first, as people write it."""
    return _probe("addition", False, recipe, seconds, seed, updates)


def addition_reversed(recipe: str | Recipe, seconds: float, seed: int = 0, updates: int | None = None) -> ProbeResult:
    """The sum's last digit first."""
    return _probe("addition-reversed", True, recipe, seconds, seed, updates)
