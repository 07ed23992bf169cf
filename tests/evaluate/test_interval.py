"""The bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from genus.evaluate import interval
from genus.evaluate.interval import bootstrap


def test_width_is_that_of_theory() -> None:
    """For a ratio of sums the normal approximation is good with 400 units."""
    rng = np.random.default_rng(1)
    size = rng.uniform(50, 150, 400)
    bits = size * 2.0 + rng.normal(0, 20, 400)
    ratio = bits.sum() / size.sum()
    error = np.sqrt(((bits - ratio * size) ** 2).sum()) / size.sum()
    low, high = bootstrap(bits, size)
    assert low < ratio < high
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.12)


def test_covers_the_truth_about_95_times_in_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval, "RESAMPLES", 200)
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        size = rng.uniform(50, 150, 60)
        low, high = bootstrap(size * 2.0 + rng.normal(0, 30, 60), size, seed=int(rng.integers(2**31)))
        hits += low < 2.0 < high
    assert 175 <= hits <= 199


def test_many_units_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    size = rng.uniform(50, 150, 999)
    bits = size * 2 + rng.normal(0, 20, 999)
    wide = bootstrap(bits, size)
    monkeypatch.setattr(interval, "GROUPS", 100)
    joined = bootstrap(bits, size)
    assert joined[1] - joined[0] == pytest.approx(wide[1] - wide[0], rel=0.25)


def test_small_cases() -> None:
    assert bootstrap(np.array([3.0]), np.array([1.0])) is None
    assert bootstrap(np.array([]), np.array([])) is None
    assert bootstrap(np.array([2.0, 4.0]), np.array([1.0, 2.0])) == (2.0, 2.0)
    low, high = bootstrap(np.array([2.0, 0.0]), np.array([1.0, 0.0]))  # an empty document has no bytes
    assert low == high == 2.0


def test_same_seed_same_interval() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.uniform(size=50), rng.uniform(1, 2, 50)
    assert bootstrap(a, b) == bootstrap(a, b) != bootstrap(a, b, seed=1)
