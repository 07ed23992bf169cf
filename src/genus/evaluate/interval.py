"""How far a measured ratio may be off by the choice of documents: a bootstrap (Efron 1979)."""

from __future__ import annotations

import numpy as np

FEWEST = 20  # documents from which they are resampled; below it, blocks of them are
GROUPS = 4000  # more units than this are joined, neighbour to neighbour, before resampling
RESAMPLES = 1000


def bootstrap(numerator: np.ndarray, denominator: np.ndarray, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of sum(numerator) / sum(denominator) when units are drawn again with replacement.

    Args:
        numerator, denominator: (units,), such as the bits and the bytes of each document.

    Returns:
        The 2.5th and 97.5th percentile; None with fewer than two units.
    """
    if len(numerator) < 2:
        return None
    a, b = _join(numerator), _join(denominator)
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(RESAMPLES // 50):
        times = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=50)
        total = times @ b
        ratios.append((times @ a)[total > 0] / total[total > 0])
    low, high = np.percentile(np.concatenate(ratios), [2.5, 97.5])
    return float(low), float(high)


def _join(values: np.ndarray) -> np.ndarray:
    if len(values) <= GROUPS:
        return np.asarray(values, np.float64)
    borders = np.linspace(0, len(values), GROUPS, endpoint=False).astype(np.int64)
    return np.add.reduceat(np.asarray(values, np.float64), borders)
