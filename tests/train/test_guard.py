"""Updates that would wreck a run are refused, and a hopeless run is stopped with advice."""

from __future__ import annotations

import math

import pytest

from genus.train.guard import GIVE_UP, PERSISTS, SETTLE, Guard


def test_numbers_that_are_none_are_refused() -> None:
    guard = Guard()
    assert guard.check(1.0, 1.0) is None
    assert "not a number" in str(guard.check(math.nan, 1.0))
    assert "not a number" in str(guard.check(1.0, math.inf))
    assert guard.total == 2


def test_a_spike_is_refused_once_the_usual_is_known() -> None:
    guard = Guard()
    assert guard.check(1.0, 500.0) is None  # nothing is known yet
    for _ in range(200):
        assert guard.check(1.0, 1.0) is None
    assert guard.seen > SETTLE
    assert "times the usual" in str(guard.check(1.0, 100.0))
    assert guard.check(1.0, 2.0) is None and guard.refused == 0


def test_large_norms_that_stay_are_the_usual_ones() -> None:
    guard = Guard()
    for _ in range(SETTLE):
        assert guard.check(1.0, 1.0) is None
    for _ in range(PERSISTS):
        assert "times the usual" in str(guard.check(1.0, 50.0))
    for _ in range(2 * GIVE_UP):
        assert guard.check(1.0, 50.0) is None
    assert guard.total == PERSISTS
    assert "times the usual" in str(guard.check(1.0, 5000.0))


def test_a_hopeless_run_stops_with_advice() -> None:
    guard = Guard()
    with pytest.raises(FloatingPointError, match="lower --lr"):
        for _ in range(GIVE_UP):
            guard.check(math.nan, math.nan)


def test_state_is_complete() -> None:
    guard = Guard()
    for i in range(60):
        guard.check(1.0, 1.0 + i % 3)
    again = Guard(**guard.state())  # type: ignore[arg-type]
    assert again == guard and again.check(1.0, 1.5) == guard.check(1.0, 1.5) and again == guard
