"""Rolling origins: what is fitted, what is judged, who is believed."""

import numpy as np
import pytest

from genus.plan.forecast.blend import Table, fit_member, names, settings
from genus.plan.forecast.discrepancy import excess
from genus.plan.forecast.rolling import roll
from genus.plan.table import Runs


def table(law, noise: float = 0.002) -> Runs:
    n, compute = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 8), np.geomspace(1e16, 1e20, 9)))
    d = compute / (6 * n)
    kept = (d / n > 1) & (d / n < 1000)
    n, d = n[kept], d[kept]
    return Runs(n, d, law(n, d) * np.exp(noise * np.random.default_rng(0).normal(size=n.size)))


def with_floor(n, d):
    return 2.2 + 300 / n**0.34 + 900 / d**0.33


def without_floor(n, d):
    return (4000 / n**0.5 + 30000 / d**0.5) ** 0.12


@pytest.mark.parametrize(("law", "winner"), [(with_floor, 0), (without_floor, 2)])
def test_the_form_that_predicted_the_hold_out_is_believed(law, winner):
    members = names(("chinchilla", "bracket"))
    rolled = roll(table(law), members, 0.002)
    weights = rolled.weights().reshape(-1, len(members)).sum(0)
    assert weights.sum() == pytest.approx(1)
    assert weights[winner] > weights[2 - winner]


def test_lines_are_ordered_and_complete():
    members = names(("chinchilla", "bracket"))
    rolled = roll(table(with_floor), members, 0.002)
    assert {line.form for line in rolled.rows} == {*members, "blend"}
    ratios = [line.ratio for line in rolled.errors()]
    assert ratios == sorted(ratios) and len(ratios) == rolled.origins >= 3
    errors = [abs(line.error) for line in rolled.errors()]
    assert errors[0] < 0.01 and max(errors) < 0.05


def test_a_table_without_smaller_budgets_has_no_origin():
    runs = table(with_floor)
    top = runs[runs.compute > 0.9 * runs.compute.max()]
    rolled = roll(top, names(("chinchilla", "bracket")), 0.002)
    assert rolled.origins == 0 and rolled.rows == []
    np.testing.assert_allclose(rolled.weights(), 1 / len(rolled.score))


def test_excess_is_zero_for_the_best_of_each_budget():
    runs = table(with_floor, noise=0.0)
    far = excess(runs)
    assert (far >= 0).all()
    groups = runs.budgets()
    for g in np.unique(groups)[1:]:
        rows = groups == g
        assert far[rows].min() == 0 and far[rows].argmin() == runs.loss[rows].argmin()


def test_excess_compares_only_runs_on_as_little_data():
    runs = Runs([1e8] * 4, [4e9] * 4, [3.0, 3.1, 4.0, 4.2], unique=[4e9, 4e9, 1e8, 1e8])
    np.testing.assert_allclose(excess(runs), [0, 0.1 / 3, 0, 0.05], atol=1e-12)


def test_a_member_forgets_the_prior_where_data_speak():
    """Exponents far from the prior's 0.3 are approached with many runs, and stay near it with few."""
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 8), np.geomspace(1e8, 1e11, 8)))
    steep = Runs(n, d, 2 + 900 / n**0.55 + 3e4 / d**0.55)
    setting = settings(0.001)[0]
    many = fit_member(Table(steep), "chinchilla", setting).law().values
    corner = (n >= 1e8) & (d >= 1e10)
    few = fit_member(Table(steep[corner]), "chinchilla", setting).law().values
    assert few["alpha"] < many["alpha"] - 0.02 < many["alpha"] < 0.55
    assert few["beta"] < many["beta"] - 0.02 < many["beta"] < 0.55
