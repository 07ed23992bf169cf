"""Profiles: narrow where the data decide, flat where they do not."""

import json
import math

import numpy as np
import pytest

from genus.plan.fit import fit
from genus.plan.profile import profile
from genus.plan.table import Runs


def table(high: float = 11.5, noise: float = 0.01, rows: int = 80, unique: float | None = None) -> Runs:
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(6.5, 9.5, rows), 10 ** rng.uniform(8.5, high, rows)
    loss = (1.7 + 400 / n**0.34 + 2000 / d**0.37) * np.exp(rng.normal(0, noise, rows))
    return Runs(n, d, loss, unique=None if unique is None else np.full(rows, unique))


def test_a_determined_exponent_has_a_narrow_interval_around_the_truth() -> None:
    runs = table(noise=0.002)
    found = profile(runs, "chinchilla", "alpha")
    law = fit(runs)
    assert found.low < law.values["alpha"] < found.high and found.low < 0.34 < found.high
    assert found.high < 1.15 * found.low and not found.flat
    assert found.best == law.values["alpha"] and found.objective.min() == law.objective
    assert found.text() == f"{found.low:.4g} to {found.high:.4g}"
    assert (np.diff(found.grid) > 0).all() and len(found.objective) == len(found.grid)


def test_the_ends_of_the_interval_are_where_the_objective_has_risen() -> None:
    runs = table()
    found = profile(runs, "chinchilla", "beta", within=0.02)
    least = fit(runs).objective
    for end in (found.low, found.high):
        assert fit(runs, fixed={"beta": end}).objective == pytest.approx(1.02 * least, rel=3e-3)


def test_what_the_data_do_not_show_is_flat() -> None:
    """Three repetitions at most: how fast their worth decays cannot be seen."""
    runs = table(high=9.0, unique=10**9.2, rows=30)
    base = {**fit(runs, "chinchilla").values, "R_N": 5.0}
    found = profile(runs, "repeated", "R_D", fixed=base)
    assert found.flat and found.low == 0 and math.isinf(found.high)
    assert found.text() == "flat: any value fits equally well"
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert record["high"] is None and record["flat"] is True and record["parameter"] == "R_D"


def test_a_given_grid_is_what_is_looked_at() -> None:
    runs = table(noise=0.02)
    found = profile(runs, "chinchilla", "E", grid=[0.0, 1.5, 1.7, 1.9])
    assert set(found.grid) >= {0.0, 1.5, 1.7, 1.9} and found.low in found.grid and found.high in found.grid
    assert found.objective[0] > found.objective.min()


def test_the_floor_may_be_zero() -> None:
    rng = np.random.default_rng(1)
    n, d = 10 ** rng.uniform(7, 8, 12), 10 ** rng.uniform(9, 10, 12)
    runs = Runs(n, d, (0.2 + 30 / n**0.2 + 20 / d**0.2) * np.exp(rng.normal(0, 0.03, 12)))
    found = profile(runs, "chinchilla", "E")
    assert found.flat and found.low == 0 and 0 < found.high < runs.loss.max()


def test_few_rows_allow_more() -> None:
    assert profile(table(rows=20), "chinchilla", "E").within == pytest.approx(math.expm1(3.841 / 40), rel=1e-3)
    assert profile(table(rows=20), "chinchilla", "E", delta=math.inf).within == pytest.approx(math.expm1(3.841 / 20), rel=1e-3)


def test_unknown_or_given_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="no free parameter 'gamma'; it has E, A, B, alpha, beta"):
        profile(table(), "chinchilla", "gamma")
    with pytest.raises(ValueError, match="no free parameter 'E'; it has A"):
        profile(table(), "chinchilla", "E", fixed={"E": 1.7})
