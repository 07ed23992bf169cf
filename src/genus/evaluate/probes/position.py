"""Loss along the context, and the in-context-learning score.

Kaplan et al., "Scaling Laws for Neural Language Models" (2020), figure 7: an LSTM's loss stops falling after some hundred
tokens of context, a Transformer's does not. Olsson et al. (2022) make one number of it: the loss of the 500th token of a context
less that of the 50th. Here both places are scaled to the length that the model is read over.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from genus.evaluate.probes.reading import Scores, Subject, intervals, standard_error
from genus.evaluate.probes.result import Curve, ProbeResult

EARLY, LATE = 50 / 512, 500 / 512  # of the context (Olsson et al. 2022 use contexts of 512)
AROUND = 1 / 32  # of the context that is averaged around each of the two places
RATIO = 2**0.5  # from one bin of positions to the next


def position(subject: Subject) -> ProbeResult:
    """Loss and accuracy by position in the window, in bins that grow by the square root of two."""
    scores = subject.text
    curve = _curve(scores)
    length = scores.log_probs.shape[1]
    losses = -scores.log_probs.astype(np.float64)
    half, quarter = losses[:, length // 2 :].mean(1), losses[:, length // 4 : length // 2].mean(1)
    return ProbeResult(
        "position",
        "read",
        subject.name,
        float(scores.correct[:, length // 2 :].mean()),
        "top-1 accuracy, last half",
        float(half.mean()),
        "loss, last half (nats)",
        {"last half less the quarter before (nats)": float((half - quarter).mean()), "positions": length},
        (curve,),
        _about(scores),
        intervals(loss=half, **{"last half less the quarter before (nats)": half - quarter}),
    )


def context(subject: Subject) -> ProbeResult:
    """Loss late in the context less the loss early in it; negative where the context helps."""
    scores = subject.text
    length = scores.log_probs.shape[1]
    losses, correct = -scores.log_probs.astype(np.float64), scores.correct
    early, late = (_around(length, place) for place in (EARLY, LATE))
    score = losses[:, late].mean(1) - losses[:, early].mean(1)
    gained = correct[:, late].mean(1) - correct[:, early].mean(1)
    places = f"positions {early.start + 1}–{early.stop} and {late.start + 1}–{late.stop} of {length}"
    return ProbeResult(
        "context",
        "read",
        subject.name,
        float(gained.mean()),
        "top-1 accuracy gained",
        float(losses[:, late].mean()),
        "loss, late (nats)",
        {"in-context-learning score (nats)": float(score.mean()), "loss, early (nats)": float(losses[:, early].mean())},
        (_curve(scores),),
        f"{places} (the 50th and the 500th of 512, scaled); {_about(scores)}",
        intervals(score=gained, **{"in-context-learning score (nats)": score}),
    )


def _around(length: int, place: float) -> slice:
    """About a 32nd of the context, ending with it at most."""
    width = max(1, round(length * AROUND))
    start = min(length - width, max(0, round(length * place - width / 2)))
    return slice(start, start + width)


def _curve(scores: Scores) -> Curve:
    borders = _borders(scores.log_probs.shape[1])
    bins = list(pairwise(borders))
    losses = [-scores.log_probs[:, a:b].mean(1, dtype=np.float64) for a, b in bins]
    return Curve.judge(
        "position in the context",
        [(a + 1 + b) / 2 for a, b in bins],
        "top-1 accuracy",
        [float(scores.correct[:, a:b].mean()) for a, b in bins],
        "loss (nats)",
        [float(v.mean()) for v in losses],
        error=max(standard_error(v) for v in losses),
    )


def _borders(length: int) -> list[int]:
    """0, 1, 2, 3, 4, 6, 8 ... length: at least one position in each bin."""
    steps = np.round(RATIO ** np.arange(0, 2 * np.log2(length) + 1e-9)).astype(int)
    return sorted({0, length, *(int(s) for s in steps if s * RATIO < length + 0.5)})


def _about(scores: Scores) -> str:
    windows, length = scores.log_probs.shape
    return f"{windows} window{'s' if windows > 1 else ''} of {length:,} tokens of held-out text"
