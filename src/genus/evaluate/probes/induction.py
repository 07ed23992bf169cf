"""Induction: does the model continue a random sequence that it has seen once before?

Olsson et al., "In-context Learning and Induction Heads" (2022): random tokens, then the same tokens again. A model that looks
back for the token before ("prefix matching") and copies what followed predicts the second half; nothing else can, since the
tokens are random. Olsson et al. look at attention patterns, too; this is the behaviour, which any left-to-right model has.
"""

from __future__ import annotations

import numpy as np

from genus.evaluate.probes.reading import Subject, intervals, read, standard_error
from genus.evaluate.probes.result import Curve, ProbeResult
from genus.ops.cross_entropy import IGNORE

ROWS = 32  # sequences of each length
LONGEST = 256  # tokens of one half
OLSSON = 64  # half whose figures stand for the probe, if the context has room for it
SMALLEST = 16  # ordinary tokens below which a sequence is not random enough


def induction(subject: Subject) -> ProbeResult:
    """Loss and copying on the second half of repeated random sequences.

    Tokens of one half are all different, so the token before decides what follows. The first token of the second half is left
    out: that the sequence begins again can only be guessed there.

    Raises:
        ValueError: the vocabulary or the context is too small.
    """
    if len(subject.ordinary) < SMALLEST:
        raise ValueError(
            f"the probe 'induction' needs a vocabulary of at least {SMALLEST} ordinary tokens, and {subject.name} has "
            f"{len(subject.ordinary)}"
        )
    subject.need(16, "induction")
    most = min(LONGEST, subject.length // 2, len(subject.ordinary) // 2)
    lengths = [n for n in (4, 8, 16, 32, 64, 128, 256) if n <= most]
    rng = np.random.default_rng(subject.seed)
    found = {n: _repeat(subject, n, rng) for n in lengths}
    stands = max(n for n in lengths if n <= OLSSON)
    first, second, copied = found[stands]
    gain = first - second
    curve = Curve.judge(
        "tokens in the repeated sequence",
        lengths,
        "copied",
        [float(c.mean()) for _, _, c in found.values()],
        "loss, repeat (nats)",
        [float(s.mean()) for _, s, _ in found.values()],
        error=max(standard_error(s) for _, s, _ in found.values()),
    )
    return ProbeResult(
        "induction",
        "read",
        subject.name,
        float(copied.mean()),
        f"copied ({stands} tokens)",
        float(second.mean()),
        "loss on the repeat (nats)",
        {"gain (nats)": float(gain.mean()), "loss, first time (nats)": float(first.mean())},
        (curve,),
        f"{ROWS} sequences of each length, of random tokens that are all different, twice in a row",
        intervals(score=copied, loss=second, **{"gain (nats)": gain}),
    )


def _repeat(subject: Subject, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows,) mean loss over the first time, over the second, and the share copied."""
    half = np.stack([rng.choice(subject.ordinary, length, replace=False) for _ in range(ROWS)])
    tokens = np.concatenate([half, half], axis=1)
    inputs = np.concatenate([np.full((ROWS, 1), subject.tokenizer.bos_id), tokens[:, :-1]], axis=1)
    targets = tokens.copy()
    targets[:, [0, length]] = IGNORE
    scores = read(subject.model, inputs, targets)
    losses = -scores.log_probs.astype(np.float64)
    return losses[:, 1:length].mean(1), losses[:, length + 1 :].mean(1), scores.correct[:, length + 1 :].mean(1)
