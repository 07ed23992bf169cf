"""Shapes of the learning-rate schedules."""

from __future__ import annotations

import pytest

from genus.recipes.training import Constant, Cosine, EpochDecay, InverseSqrt, Moment, Schedule, WarmupStableDecay


def factor(schedule: Schedule, progress: float, passes: float = 0.0, rise: float | None = None) -> float:
    return schedule.at(schedule.moment(progress, passes, rise))


def test_warmup_stable_decay() -> None:
    wsd = WarmupStableDecay(warmup=0.1, decay=0.2, final=0.0)
    assert [factor(wsd, p) for p in (0.0, 0.05, 0.1, 0.5, 0.8)] == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert factor(wsd, 0.9) == pytest.approx(0.5)
    assert factor(wsd, 1.0) == pytest.approx(0.0)


def test_cosine_ends_at_its_final_value() -> None:
    cosine = Cosine(warmup=0.0, final=0.1)
    assert factor(cosine, 0.0) == 1.0
    assert factor(cosine, 0.5) == pytest.approx(0.55)
    assert factor(cosine, 1.0) == pytest.approx(0.1)


def test_constant() -> None:
    assert factor(Constant(warmup=0.0), 0.7) == 1.0


def test_inverse_square_root() -> None:
    """Vaswani et al. 2017, eq. 3, as a factor on its highest value: 4,000 of 100,000 updates of warm-up."""
    steps = [1, 2000, 4000, 16000, 100_000]
    rates = [min(s**-0.5, s * 4000**-1.5) * 4000**0.5 for s in steps]
    assert [factor(InverseSqrt(), s / 100_000) for s in steps] == pytest.approx(rates)
    assert factor(InverseSqrt(warmup=0.0), 0.7) == 1.0
    assert InverseSqrt().at(Moment(0.5, risen=16.0)) == 0.25, "a warm-up counted in updates, where the run's length is a time"


def test_warmup_of_the_run_goes_before_the_schedules_own() -> None:
    assert factor(Constant(warmup=0.5), 0.05, rise=0.1) == 0.5


def test_zaremba_halves_from_the_fifth_pass_on() -> None:
    small = EpochDecay(keep=4, factor=0.5)
    assert [factor(small, 0.5, passes=e) for e in (0, 3.9, 4, 5.9, 12)] == [1, 1, 0.5, 0.25, 0.5**9]
