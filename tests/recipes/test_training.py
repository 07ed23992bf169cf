"""Training defaults."""

from __future__ import annotations

import math

import pytest

from genus import recipes
from genus.recipes.training import adamw_rate


def test_learning_rate_by_size() -> None:
    """Kaplan et al. 2020, equation D.1."""
    for n in (1e6, 1e8, 1e9):
        assert adamw_rate(int(n)) == pytest.approx(0.003239 - 0.0001395 * math.log(n))
    assert adamw_rate(0) > 0


def test_the_rate_stays_positive_for_every_size() -> None:
    assert all(adamw_rate(10**k) > 0 for k in range(12))


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_can_be_trained(name: str) -> None:
    training = recipes.make(name).training
    if type(training).__name__ == "Counting":
        assert training.memory > 0
        return
    assert training.context > 0 and training.batch > 0 and training.clip >= 0
    assert 0 <= training.schedule.warmup < 1
    assert training.optimizer.lr is None or training.optimizer.lr > 0
