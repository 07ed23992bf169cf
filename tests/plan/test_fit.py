"""Fits: known parameters come back, through noise and outliers, in any units; poor tables are refused."""

import json
import math

import numpy as np
import pytest

from genus.plan.fit import Law, fit, fits, line
from genus.plan.forms import FORMS
from genus.plan.starts import nonnegative
from genus.plan.table import Runs

TRUE = {
    "chinchilla": {"E": 1.7, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.37},
    "bracket": {"E": 1.6, "A": 2e4, "B": 4e5, "alpha": 0.52, "beta": 0.6, "gamma": 0.5},
    "repeated": {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.35, "beta": 0.36, "R_D": 12.0, "R_N": 5.0},
    "batch": {"E": 1.7, "A": 400.0, "B": 2000.0, "C": 60.0, "alpha": 0.34, "beta": 0.37, "kappa": 0.6},
    "power": {"E": 1.5, "A": 500.0, "alpha": 0.33},
    "power:seconds": {"E": 1.5, "A": 2.0, "alpha": 0.5},
}


def table(name: str = "chinchilla", noise: float = 0.0, outliers: float = 0.0, rows: int = 120, seed: int = 0) -> Runs:
    """Rows whose loss follows the law of TRUE, with normal noise of the logarithm and a share of rows off by up to 30 %."""
    rng = np.random.default_rng(seed)
    columns = {
        "params": 10 ** rng.uniform(6.5, 9.5, rows),
        "tokens": 10 ** rng.uniform(8.5, 11.5, rows),
        "unique": 10 ** rng.uniform(8, 9.5, rows),
        "batch": 10 ** rng.uniform(5, 7, rows),
        "seconds": 10 ** rng.uniform(1, 5, rows),
    }
    clean = Law(name, TRUE[name], 0, 0, rows, 0).predict(**columns)
    off = rng.random(rows) < outliers
    return Runs(loss=clean * np.exp(rng.normal(0, noise, rows) + off * rng.uniform(0.05, 0.3, rows)), **columns)


@pytest.mark.parametrize("name", TRUE)
def test_exact_data_give_the_law_back(name: str) -> None:
    law = fit(table(name), name)
    assert law.gradient_norm < 1e-6 and law.spread < 1e-6 and not law.held
    for key, value in TRUE[name].items():
        assert law.values[key] == pytest.approx(value, rel=2e-3), key


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_outliers_move_little(seed: int) -> None:
    law = fit(table(noise=0.003, outliers=0.05, rows=200, seed=seed))
    assert law.values["E"] == pytest.approx(1.7, abs=0.06)
    assert law.values["alpha"] == pytest.approx(0.34, abs=0.025) and law.values["beta"] == pytest.approx(0.37, abs=0.025)
    squares = fit(table(noise=0.003, outliers=0.05, rows=200, seed=seed), delta=math.inf)
    clean = table(rows=200, seed=seed)
    ours, theirs = (np.abs(x.residuals(clean)).max() for x in (law, squares))
    assert ours < 0.01 and ours < theirs


@pytest.mark.parametrize("name", ["chinchilla", "bracket", "repeated"])
def test_units_change_only_the_coefficients(name: str) -> None:
    runs = table(name, noise=0.01, rows=60)
    other = Runs(runs.params / 1e9, runs.tokens / 1e9, runs.loss, unique=runs.unique / 1e9)
    a, b = fit(runs, name), fit(other, name)
    assert b.objective == pytest.approx(a.objective, rel=1e-9)
    for key, value in a.values.items():
        scale = {"A": 1e9 ** -a.values["alpha"], "B": 1e9 ** -a.values["beta"]}.get(key, 1.0)
        assert b.values[key] == pytest.approx(value * scale, rel=1e-5), key
    assert np.allclose(a.predict_runs(runs), b.predict_runs(other), rtol=1e-7)
    halved = fit(Runs(runs.params, runs.tokens, runs.loss / 2, unique=runs.unique), name)
    assert halved.values["alpha"] == pytest.approx(a.values["alpha"], rel=1e-5)
    assert halved.values["E"] == pytest.approx(a.values["E"] / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["chinchilla", "bracket"])
def test_no_other_start_ends_lower(name: str) -> None:
    """The objective has many valleys; a random search of many starts must not find a deeper one."""
    from genus.plan.fit import Problem

    for seed in range(2):
        runs = table("bracket", noise=0.02, outliers=0.1, rows=25, seed=seed)
        law = fit(runs, name)
        problem = Problem(runs, FORMS[name], None, 1e-3, {}, ())
        rng = np.random.default_rng(seed)
        z = problem.coordinates(law.values)
        others = [np.clip(z + rng.normal(0, 0.7, len(z)), problem.low, problem.high) for _ in range(15)]
        assert law.objective <= problem.bottoms(others)[0].objective * (1 + 1e-7)


def test_the_objective_is_a_sum_over_weighted_rows() -> None:
    runs = table(noise=0.01, rows=50)
    law = fit(runs)
    r = np.abs(law.residuals(runs))
    assert law.objective == pytest.approx(np.where(r < 1e-3, r * r / 2, 1e-3 * (r - 5e-4)).sum(), rel=1e-12)
    twice = runs[np.repeat(np.arange(50), 2)]
    weighted = fit(runs, weights=np.full(50, 2.0))
    assert fit(twice).objective == pytest.approx(weighted.objective, rel=1e-9) == pytest.approx(2 * law.objective, rel=1e-9)
    weights = np.ones(50)
    weights[::5] = 0
    left = fit(runs, weights=weights)
    assert left.rows == 40 and left.values == pytest.approx(fit(runs[weights > 0]).values, rel=1e-9)
    for bad in (np.ones(3), -weights, weights * math.nan):
        with pytest.raises(ValueError, match="weights must be 50 numbers"):
            fit(runs, weights=bad)


def test_fixed_and_tied_parameters() -> None:
    runs = table(noise=0.005)
    free = fit(runs)
    again = fit(runs, fixed={"E": free.values["E"], "A": free.values["A"]})
    assert again.fixed == ("E", "A") and again.values["A"] == free.values["A"]
    assert again.values == pytest.approx(free.values, rel=1e-4)
    tied = fit(runs, tie="alpha=beta")
    assert tied.values["alpha"] == tied.values["beta"] and tied.objective >= free.objective
    assert tied.values == fit(runs, tie=("alpha", "beta")).values == fit(runs, tie=[("alpha", "beta")]).values
    both = fit(runs, fixed={"alpha": 0.35}, tie="alpha=beta")
    assert both.values["alpha"] == both.values["beta"] == 0.35
    every = fit(runs, fixed=free.values)
    assert every.objective == pytest.approx(free.objective, rel=1e-10) and every.gradient_norm == 0
    with pytest.raises(ValueError, match="no parameter 'gamma' to fix; it has E, A, B"):
        fit(runs, fixed={"gamma": 1})
    with pytest.raises(ValueError, match="alpha cannot be fixed at -1"):
        fit(runs, fixed={"alpha": -1})
    with pytest.raises(ValueError, match=r"only exponents .* can be tied"):
        fit(runs, tie="A=B")
    with pytest.raises(ValueError, match="fixed at different values"):
        fit(runs, tie="alpha=beta", fixed={"alpha": 0.3, "beta": 0.4})


def test_plain_least_squares_is_that_of_scipy() -> None:
    from scipy.optimize import least_squares

    runs = table(noise=0.02, rows=40)
    law = fit(runs, delta=math.inf, residual="plain")

    def residuals(p: np.ndarray) -> np.ndarray:
        return p[0] + np.exp(p[1] - p[3] * np.log(runs.params)) + np.exp(p[2] - p[4] * np.log(runs.tokens)) - runs.loss

    v = TRUE["chinchilla"]
    start = [v["E"], math.log(v["A"]), math.log(v["B"]), v["alpha"], v["beta"]]
    peer = least_squares(residuals, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert law.objective == pytest.approx(peer.cost, rel=1e-9)
    assert law.values["alpha"] == pytest.approx(peer.x[3], rel=1e-4)


def test_poor_tables_are_refused_with_advice() -> None:
    runs = table(rows=40)
    with pytest.raises(ValueError, match=r"5 rows are too few for the 5 free parameters .* give at least 6"):
        fit(runs[:5])
    one = Runs(np.full(40, 1e8), runs.tokens, runs.loss)
    with pytest.raises(ValueError, match=r"every row has params = 1e\+08, so A and alpha .* cannot be told from E"):
        fit(one)
    assert fit(one, "power").rows == 40
    with pytest.raises(ValueError, match="'batch' needs batch"):
        fit(one, "batch")
    with pytest.raises(ValueError, match="delta must be positive"):
        fit(runs, delta=0)


def test_a_parameter_at_its_bound_is_reported() -> None:
    runs = table(rows=60)
    level = Runs(runs.params, runs.tokens, 300 / runs.tokens**0.2 + 100 / runs.params**0.25)  # no floor at all
    law = fit(level)
    assert law.values["E"] == pytest.approx(0, abs=0.02)
    unrepeated = table("chinchilla", rows=60)
    held = fit(Runs(unrepeated.params, unrepeated.tokens, unrepeated.loss * 1.5, unique=unrepeated.tokens), "repeated")
    assert set(held.held) <= {"R_D", "R_N"}


def test_few_clean_rows_are_enough() -> None:
    law = fit(table("power", rows=5), "power")
    assert law.values == pytest.approx(TRUE["power"], rel=1e-3)


def test_a_law_predicts_broadcasts_and_survives_json() -> None:
    law = fits(table(noise=0.01, rows=30))[0]
    shape = law.predict([[1e8], [1e9]], [1e9, 1e10, 1e11])
    assert shape.shape == (2, 3) and (np.diff(shape, axis=0) < 0).all() and (np.diff(shape, axis=1) < 0).all()
    v = law.values
    assert law.predict(1e8, 1e9) == pytest.approx(v["E"] + v["A"] / 1e8 ** v["alpha"] + v["B"] / 1e9 ** v["beta"], rel=1e-12)
    again = Law.from_json(json.loads(json.dumps(law.to_json())))
    assert again == law and np.array_equal(again.predict(1e8, [1e9, 2e9]), law.predict(1e8, [1e9, 2e9]))
    assert law.predict(1e8, [], unique=None).shape == (0,)
    repeated = Law("repeated", TRUE["repeated"], 0, 0, 1, 0)
    assert repeated.predict(1e8, 1e11, unique=1e9) > repeated.predict(1e8, 1e11) == repeated.predict(1e8, 1e11, unique=1e12)


def test_starting_from_a_law_ends_where_the_search_ends() -> None:
    runs = table(noise=0.01, rows=60)
    law = fit(runs)
    near = fit(runs, start=[Law("chinchilla", TRUE["chinchilla"], 0, 0, 1, 0)])
    assert near.objective == pytest.approx(law.objective, rel=1e-9)


def test_nonnegative_least_squares_is_that_of_scipy() -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    columns, weights = rng.normal(0.3, 1, (20, 12, 3)), rng.uniform(0.1, 2, (20, 12))
    ours = nonnegative(columns, weights)
    for c, x, w in zip(ours, columns, weights):
        assert np.allclose(c, nnls(x * np.sqrt(w)[:, None], np.sqrt(w))[0], atol=1e-8)
    assert (ours == 0).any()


def test_a_line_through_logarithms() -> None:
    x = np.array([1.0, 10, 100, 1000])
    assert line(x, 3 * x**0.5) == pytest.approx((0.5, 3.0, 1.0))
    exponent, _, r2 = line(x, [3, 30, 300, 1], weights=[1, 1, 1, 1e-9])
    assert exponent == pytest.approx(1, abs=1e-4) and r2 == pytest.approx(1, abs=1e-4)
