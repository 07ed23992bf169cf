"""Scores of predictions against labels, from counts that can be added: of parts of the rows, as of all at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

TINY = 1e-12
BINS = 15  # of the expected calibration error (Guo et al. 2017)


class Counts(Protocol):
    """What scores need of some rows. The sum of two is that of all their rows."""

    def __add__(self, other: Self, /) -> Self: ...

    def scores(self) -> dict[str, float]:
        """Scores by name; NaN where there are no rows."""
        ...


@dataclass(frozen=True)
class ClassCounts:
    """Of class probabilities, in room that does not grow with the rows.

    Attributes:
        table: (classes, classes) rows by their label (row) and by what was predicted (column). bins: `binned` confidence.
        lost: sum of -log probability of the right classes.
    """

    table: np.ndarray
    bins: np.ndarray
    lost: float

    @classmethod
    def of(cls, probabilities: Sequence[Sequence[float]], targets: Sequence[int], classes: int) -> Self:
        p, t = np.asarray(probabilities, np.float64).reshape(len(targets), classes), np.asarray(targets, np.int64)
        guess = p.argmax(1)
        told = np.maximum(p[np.arange(len(t)), t], TINY)
        return cls(confusion(guess, t, classes), binned(p.max(1), guess == t), float(-np.log(told).sum()))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.table + other.table, self.bins + other.bins, self.lost + other.lost)

    def scores(self) -> dict[str, float]:
        """accuracy; macro_f1: mean F1 of the classes that occur among targets or predictions; ece: expected calibration error;
        loss: mean -log probability of the right class."""
        rows = int(self.table.sum())
        if not rows:
            return dict.fromkeys(("accuracy", "macro_f1", "ece", "loss"), math.nan)
        hits, said = self.table.diagonal(), self.table.sum(0) + self.table.sum(1)
        return {
            "accuracy": float(hits.sum() / rows),
            "macro_f1": float((2 * hits[said > 0] / said[said > 0]).mean()),
            "ece": calibration_error(self.bins),
            "loss": self.lost / rows,
        }


def confusion(guesses: np.ndarray, targets: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes): row = the label, column = what was predicted."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (targets, guesses), 1)
    return table


def binned(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(bins, 3) of bins of equal width (Guo et al. 2017, section 2): the sum of the confidence, rows that are right, all rows."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    weights = (confidence, right, np.ones_like(confidence))
    return np.stack([np.bincount(place, weight, bins) for weight in weights], axis=1)


def reliability(table: np.ndarray) -> list[tuple[float, float, int]]:
    """(mean confidence, share right, rows) of each of the bins that holds a row."""
    return [(sure / rows, right / rows, int(rows)) for sure, right, rows in table.tolist() if rows]


def calibration_error(table: np.ndarray) -> float:
    """Expected calibration error: mean distance of confidence and share right over bins, weighted by rows (eq. 3)."""
    return float(np.abs(table[:, 0] - table[:, 1]).sum() / max(1.0, table[:, 2].sum()))


@dataclass(frozen=True)
class NumberCounts:
    """Of predicted numbers: all of them, since their ranks count; 16 bytes a row. `spread`: the unit of the loss."""

    predictions: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]
    spread: float = 1.0

    @classmethod
    def of(cls, predictions: Sequence[float], targets: Sequence[float], spread: float = 1.0) -> Self:
        return cls((np.asarray(predictions, np.float64),), (np.asarray(targets, np.float64),), spread)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.predictions + other.predictions, self.targets + other.targets, self.spread)

    def scores(self) -> dict[str, float]:
        """pearson, spearman (rank correlation), r2, the root mean square error, and the loss: half the square error in units."""
        p, t = np.concatenate(self.predictions), np.concatenate(self.targets)
        if len(t) == 0:
            return dict.fromkeys(("pearson", "spearman", "r2", "rmse", "loss"), math.nan)
        spread = float(((t - t.mean()) ** 2).sum())
        error = float(((p - t) ** 2).sum())
        rmse = math.sqrt(error / len(t))
        return {
            "pearson": _correlation(p, t),
            "spearman": _correlation(_ranks(p), _ranks(t)),
            "r2": 1 - error / spread if spread else math.nan,
            "rmse": rmse,
            "loss": 0.5 * (rmse / self.spread) ** 2,
        }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """0 where one of them is constant, as a constant says nothing about the other."""
    a, b = a - a.mean(), b - b.mean()
    length = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / length if length > 1e-12 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)  # type: ignore[no-any-return]
