"""Grokking: does an architecture come to the rule of modular addition long after it knows its examples by heart?

Power et al., "Grokking: Generalization Beyond Overfitting on Small Algorithmic Datasets" (2022); Nanda et al., "Progress Measures
for Grokking via Mechanistic Interpretability" (ICLR 2023), whose setting this is (all training pairs in every update, strong
weight decay), with a smaller modulus, more decay and a higher rate, so that the rule can come within a minute.
"""

from __future__ import annotations

import numpy as np

from genus.evaluate.probes.learning import Learned, learn
from genus.evaluate.probes.result import ProbeResult
from genus.evaluate.probes.small import describe, small
from genus.evaluate.probes.task import Sample, Task
from genus.recipes.recipe import Recipe
from genus.recipes.training import AdamW, WarmupStableDecay

MODULUS = 23
SHARE = 0.8  # of the pairs that are trained on
KNOWN = 0.95  # accuracy from which a set of pairs counts as known
LATE = 2.0  # times as many updates to the rule as to the examples, from which it is called grokking

SEEN, HELD_OUT = "seen", "held out"


class Grokking(Task):
    """`a b = c` with c = (a + b) mod `modulus`. Every pair is seen or held out, together with `b a`.

    With pairs divided in one order only, knowing that a + b = b + a would already answer `share` of those held out.
    """

    levels = (SEEN, HELD_OUT)
    length = 4
    optimizer = AdamW(lr=5e-3, weight_decay=2.0, beta2=0.98)
    schedule = WarmupStableDecay(warmup=0.01)

    def __init__(self, modulus: int = MODULUS, share: float = SHARE) -> None:
        self.vocab = modulus + 2
        a, b = np.divmod(np.arange(modulus**2), modulus)
        table = np.stack([a + 1, b + 1, np.full_like(a, modulus + 1), (a + b) % modulus + 1], axis=1)
        draw = np.random.default_rng(0).random((modulus, modulus))
        seen = draw[np.minimum(a, b), np.maximum(a, b)] < share
        self.tables = {SEEN: table[seen], HELD_OUT: table[~seen]}

    def batch(self, rng: np.random.Generator) -> Sample:
        """All pairs that are trained on, each time."""
        return self.test(SEEN)

    def test(self, level: str) -> Sample:
        tokens = self.tables[level]
        asked = np.zeros_like(tokens, dtype=bool)
        asked[:, -1] = True
        return Sample(tokens, asked)


def grokking(recipe: str | Recipe, seconds: float, seed: int = 0, updates: int | None = None) -> ProbeResult:
    """Accuracy on pairs that were never seen, along training, and when it came."""
    task = Grokking()
    chosen = small(recipe, task.vocab, task.length)
    learned = learn(chosen, task, seconds, seed, updates)
    when = {level: reached(learned, level) for level in task.levels}
    score, loss = learned.last(HELD_OUT)
    seen, rule = when[SEEN], when[HELD_OUT]
    known = {f"updates to {KNOWN:.0%}, {level}": at for level, at in when.items() if at}
    return ProbeResult(
        "grokking",
        "train",
        describe(chosen),
        score,
        "right, held-out pairs",
        loss,
        "loss, held-out pairs (nats)",
        {"right, seen pairs": learned.last(SEEN)[0], **known, "updates": learned.updates[-1]},
        tuple(c for c in (learned.curve(f"right, {v}", f"loss, {v} (nats)", v) for v in (HELD_OUT, SEEN)) if c),
        f"addition modulo {MODULUS}, {len(task.tables[SEEN])} of {MODULUS**2} pairs in every update, "
        f"weight decay {task.optimizer.weight_decay:g}",
        notes=(*learned.notes, _verdict(seen, rule, score)),
        seconds=learned.seconds,
    )


def reached(learned: Learned, level: str) -> int | None:
    """The first measured number of updates at which a level is known."""
    scores = [score for score, _ in learned.trace[level]]
    return next((at for at, score in zip(learned.updates, scores, strict=True) if score >= KNOWN), None)


def _verdict(seen: int | None, rule: int | None, score: float) -> str:
    if seen is None:
        return f"the examples were not known ({KNOWN:.0%}) within the time: nothing can be said of grokking"
    if rule is None:
        known = f"the examples were known after {seen:,} updates"
        return f"{known}, the rule was not within the time ({score:.0%} of the held-out pairs)"
    if rule >= LATE * seen:
        return f"grokking: the examples were known after {seen:,} updates, the rule after {rule:,}"
    return f"no grokking: the rule came with the examples ({seen:,} and {rule:,} updates)"
