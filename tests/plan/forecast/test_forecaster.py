"""Forecasts: what they recover, how wide they are, what they warn of."""

from pathlib import Path

import numpy as np
import pytest

from genus.plan.forecast import calibration, doubts
from genus.plan.forecast.blend import Table, learn_worth
from genus.plan.forecast.calibration import Case
from genus.plan.forecast.forecaster import Forecast, forecast
from genus.plan.forecast.rolling import roll
from genus.plan.table import Runs

FIXED = calibration.calibrate(calibration.published())


def chinchilla(params, tokens):
    return 1.8 + 480 / np.asarray(params) ** 0.35 + 2000 / np.asarray(tokens) ** 0.37


def grid(noise: float = 0.003, seed: int = 0) -> Runs:
    n, d = (v.ravel() for v in np.meshgrid([1e7, 3e7, 1e8, 3e8], [1e9, 3e9, 1e10, 3e10]))
    return Runs(n, d, chinchilla(n, d) * np.exp(noise * np.random.default_rng(seed).normal(size=n.size)), name="grid")


def porian(folder: Path, *setting: str) -> Runs:
    """One setting of Porian et al. 2024."""
    rows = np.genfromtxt(
        folder / "scaling/porian2024/isoflop_points.csv", delimiter=",", names=True, dtype=None, encoding="utf-8"
    )
    keys = ("dataset", "hparams", "warmup", "decay", "param_count")
    part = rows[[tuple(r[k] for k in keys) == setting for r in rows]]
    return Runs(part["n"], part["tokens"], part["loss"], name=" ".join(setting))


def below(runs: Runs, ratio: float = 10) -> tuple[Runs, Runs]:
    top = runs[runs.compute > runs.compute.max() / 1.05]
    return runs[runs.compute < runs.compute.max() / ratio * 1.0001], top[top.loss < top.loss.min() * 1.03]


@pytest.fixture(scope="module")
def made() -> Forecast:
    return forecast(grid(), calibration=FIXED)


def test_a_known_law_is_continued(made):
    n, d = np.array([3e8, 1e9, 3e9]), np.array([3e10, 1e11, 3e11])
    band = made.predict(n, d)
    assert np.all((band.low < chinchilla(n, d)) & (chinchilla(n, d) < band.high))
    assert np.abs(band.loss / chinchilla(n, d) - 1)[1] < 0.015
    assert np.all(np.diff(np.log(band.high / band.low)) > 0)  # wider, the farther


def test_arguments_broadcast_and_draws_agree_with_the_band(made):
    n, d = np.geomspace(1e8, 3e9, 5)[:, None], np.geomspace(1e10, 1e12, 4)
    band, draws = made.predict(n, d), made.draws(n, d)
    assert band.loss.shape == (5, 4) and draws.shape == (200, 5, 4)
    low, middle, high = np.quantile(np.log(draws), [0.05, 0.5, 0.95], axis=0)
    width = np.log(band.high / band.low)
    assert np.all(np.abs(middle - np.log(band.loss)) < 0.35 * width)
    assert np.all(((high - low) / width > 0.6) & ((high - low) / width < 1.4))
    # Draw i is the same surface in every call, and a smooth one: neighbours move together.
    np.testing.assert_allclose(made.draws(1e9, 1e11), made.draws([1e9, 2e9], 1e11)[:, 0])
    near = np.log(made.draws([1e9, 1.1e9], 1e11))
    assert np.corrcoef(near.T)[0, 1] > 0.98


def test_json_gives_the_same_forecast(made):
    again = Forecast.from_json(made.to_json())
    np.testing.assert_allclose(again.predict(1e9, 1e11).high, made.predict(1e9, 1e11).high)
    np.testing.assert_allclose(again.draws(1e9, 1e11), made.draws(1e9, 1e11))
    assert again.warnings == made.warnings and again.rolling == made.rolling


def test_laws_are_listed_with_weights(made):
    assert [law.form for law, _ in made.laws] == ["chinchilla", "bracket", "bracket"]
    assert sum(weight for _, weight in made.laws) == pytest.approx(1)
    assert made.laws[-1][0].values["E"] == 0
    assert made.laws[0][0].predict(1e8, 1e10) == pytest.approx(chinchilla(1e8, 1e10), rel=0.02)


def test_seeds_noise_is_found_and_widens_the_band():
    calm, noisy = (forecast(grid(noise), calibration=FIXED) for noise in (0.0005, 0.02))
    assert calm.noise < 0.005 < noisy.noise
    assert noisy.deviation(3e8, 3e10) > 2 * calm.deviation(3e8, 3e10)


def test_nine_runs_of_three_sizes_are_enough():
    n, d = (v.ravel() for v in np.meshgrid([5e5, 2e6, 6e6], [2e6, 6e6, 2e7]))
    loss = 0.9 + 8 / n**0.2 + 40 / d**0.3
    band = forecast(Runs(n, d, loss), calibration=FIXED).predict(1.5e7, 8e7)
    truth = 0.9 + 8 / 1.5e7**0.2 + 40 / 8e7**0.3
    assert band.low < truth < band.high and band.high / band.low < 1.15


def test_too_little_is_refused_with_advice():
    runs = grid()
    with pytest.raises(ValueError, match=r"3 rows at 3 budgets are too few .* add runs"):
        forecast(runs[:3], calibration=FIXED)
    with pytest.raises(ValueError, match="at 1 budgets"):
        forecast(runs[[0, 0, 0, 0, 0]], calibration=FIXED)


def test_one_variable_ignores_the_size():
    tokens = np.geomspace(1e5, 1e7, 7)
    runs = Runs(0.3 * tokens, tokens, 1.2 + 30 / tokens**0.25)
    made = forecast(runs, forms=("power",), calibration=FIXED)
    band = made.predict([1.0, 1e9], 1e8)
    assert band.loss[0] == band.loss[1]
    assert band.low[0] < 1.2 + 30 / 1e8**0.25 < band.high[0]
    assert made.draws(1.0, [1e8, 1e9]).shape == (200, 2)
    assert made.rolling


def test_repeated_tokens_are_worth_less():
    rng = np.random.default_rng(0)
    n, d, u = (v.ravel() for v in np.meshgrid([3e7, 1e8, 3e8], [1e9, 4e9, 1.6e10], [1e9, 4e9, 1.6e10]))
    u = np.minimum(u, d)
    effective = u * (1 + 10 * -np.expm1(-(d / u - 1) / 10))
    runs = Runs(n, d, chinchilla(n, effective) * np.exp(0.002 * rng.normal(size=n.size)), unique=u)
    made = forecast(runs, calibration=FIXED)
    fresh, old = made.predict(3e8, 6.4e10), made.predict(3e8, 6.4e10, unique=1e9)
    assert fresh.loss < old.loss
    truth = chinchilla(3e8, 1e9 * (1 + 10 * -np.expm1(-63 / 10)))
    assert old.low < truth < old.high


def test_repeats_are_discounted_where_the_table_has_none(made):
    """Nothing in the table says what a second pass is worth; the published constant does, with its doubt in the interval."""
    fresh, once, often = (made.predict(3e8, 3e11, unique=u) for u in (None, 3e11, 3e9))
    assert fresh.loss == once.loss < often.loss
    assert often.high / often.low > fresh.high / fresh.low
    draws = np.log(made.draws(3e8, 3e11, unique=3e9))
    assert np.ptp(np.quantile(draws, [0.05, 0.95])) == pytest.approx(np.log(often.high / often.low), rel=0.4)


def test_real_table_is_predicted_within_its_interval(shared_data):
    fitted, judged = below(porian(shared_data, "rw", "tuned", "short", "const", "standard"))
    made = forecast(fitted, calibration=FIXED)
    band = made.predict(judged.params, judged.tokens)
    assert abs(np.median(band.loss / judged.loss) - 1) < 0.015
    assert np.all((band.low < judged.loss) & (judged.loss < band.high))
    assert not [w for w in made.warnings if w.startswith("bent")]


def test_a_law_that_bends_is_warned_of(shared_data):
    """Small runs held back by a long warm-up: a five-parameter law is 24 % off at ten times the compute."""
    fitted, judged = below(porian(shared_data, "rw", "base", "long", "kaplan", "standard"))
    made = forecast(fitted, calibration=FIXED)
    assert [w for w in made.warnings if w.startswith("bent")]
    assert abs(np.median(made.predict(judged.params, judged.tokens).loss / judged.loss) - 1) < 0.03


def test_best_size_at_the_edge_is_warned_of_and_widens():
    n, compute = (v.ravel() for v in np.meshgrid([1e6, 3e6, 1e7], np.geomspace(1e18, 1e20, 6)))
    runs = Runs(n, compute / (6 * n), chinchilla(n, compute / (6 * n)))
    table = Table(runs, learn_worth(runs))
    doubt = doubts._edge(table)
    assert doubt is not None and "largest one tried" in doubt.text and doubt.factor > 1


def test_a_missed_hold_out_widens():
    runs = grid(0.0)
    compute = runs.compute
    broken = Runs(runs.params, runs.tokens, runs.loss * np.where(compute > compute.max() / 2, 0.8, 1.0))
    made = forecast(broken, calibration=FIXED)
    assert made.doubt > 1 and any(w.startswith("missed") for w in made.warnings)


def test_calibration_scales_the_band():
    cases = [Case("a", str(i), 10.0, 0.01 * i, 0.01) for i in range(1, 11)]
    wide, narrow = (
        calibration.calibrate([Case(c.source, c.name, c.ratio, k * c.error, c.deviation) for c in cases]) for k in (1, 0.1)
    )
    one, two = (forecast(grid(), calibration=c).predict(1e9, 1e11) for c in (wide, narrow))
    assert one.loss == two.loss and one.high > two.high


def test_rolling_judges_only_rows_above_the_origin():
    runs = grid()
    rolled = roll(runs, ["chinchilla", "bracket"], 0.004)
    assert rolled.origins >= 2
    for line in rolled.rows:
        assert line.fitted == (runs.compute <= line.origin * 1.0001).sum()
        assert line.held <= (runs.compute > 1.2 * line.origin).sum()
    assert np.isclose(rolled.weights().sum(), 1)
