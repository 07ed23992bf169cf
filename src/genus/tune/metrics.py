"""Scores of predictions against labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TINY = 1e-12
BINS = 15  # of the expected calibration error (Guo et al. 2017)


def classification(probabilities: Sequence[Sequence[float]], targets: Sequence[int], classes: int) -> dict[str, float]:
    """Scores of class probabilities.

    accuracy; macro_f1: mean F1 of the classes that occur among targets or predictions; ece: expected calibration error;
    loss: mean -log probability of the right class.
    """
    if not targets:
        return dict.fromkeys(("accuracy", "macro_f1", "ece", "loss"), math.nan)
    p, t = np.asarray(probabilities, np.float64), np.asarray(targets)
    guess = p.argmax(1)
    table = confusion(guess.tolist(), targets, classes)
    hits, told, given = table.diagonal(), table.sum(0), table.sum(1)
    there = (told + given) > 0
    f1 = 2 * hits[there] / (told + given)[there]
    told = np.maximum(p[np.arange(len(t)), t], TINY)
    return {
        "accuracy": float((guess == t).mean()),
        "macro_f1": float(f1.mean()),
        "ece": calibration_error(p.max(1), guess == t),
        "loss": float(-np.log(told).mean()),
    }


def confusion(guesses: Sequence[int], targets: Sequence[int], classes: int) -> np.ndarray:
    """Counts (classes, classes): row = the label, column = what was predicted."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (np.asarray(targets, np.int64), np.asarray(guesses, np.int64)), 1)
    return table


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[tuple[float, float, int]]:
    """(mean confidence, share right, rows) of each bin of equal width that holds a row (Guo et al. 2017, section 2)."""
    place = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    found = []
    for b in range(bins):
        inside = place == b
        if inside.any():
            found.append((float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    return found


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence and share right over bins, weighted by rows (eq. 3)."""
    total = max(1, len(confidence))
    return sum(n * abs(sure - share) for sure, share, n in reliability(confidence, right, bins)) / total


def regression(predictions: Sequence[float], targets: Sequence[float]) -> dict[str, float]:
    """pearson, spearman (rank correlation), r2, and the root mean square error."""
    p, t = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
    if len(t) == 0:
        return dict.fromkeys(("pearson", "spearman", "r2", "rmse"), math.nan)
    spread = float(((t - t.mean()) ** 2).sum())
    error = float(((p - t) ** 2).sum())
    return {
        "pearson": _correlation(p, t),
        "spearman": _correlation(_ranks(p), _ranks(t)),
        "r2": 1 - error / spread if spread else math.nan,
        "rmse": math.sqrt(error / len(t)),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """0 where one of them is constant, as a constant says nothing about the other."""
    a, b = a - a.mean(), b - b.mean()
    length = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / length if length > 1e-12 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)  # type: ignore[no-any-return]
