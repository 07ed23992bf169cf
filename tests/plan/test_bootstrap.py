"""The bootstrap by run: its intervals cover, and know that points of one run are not independent."""

import numpy as np
import pytest

from genus.plan.bootstrap import bootstrap, interval
from genus.plan.fit import fit
from genus.plan.table import Runs

SIZES = 10 ** np.linspace(6.5, 9.5, 10)


def trajectories(seed: int, shared: float, own: float) -> Runs:
    """Ten runs of eight points: an error for each run, and one for each point."""
    rng = np.random.default_rng(seed)
    n, d = np.repeat(SIZES, 8), np.tile(10 ** np.linspace(8.5, 11, 8), 10)
    error = np.repeat(rng.normal(0, shared, 10), 8) + rng.normal(0, own, 80)
    return Runs(n, d, (1.7 + 400 / n**0.34 + 2000 / d**0.37) * np.exp(error), run=np.repeat(np.arange(10), 8).astype(str))


def test_it_is_repeatable_and_covers_the_fit() -> None:
    runs = trajectories(0, 0.01, 0.002)
    laws = bootstrap(runs, repeats=8, seed=3)
    assert len(laws) == 8
    assert [law.values for law in laws] == [law.values for law in bootstrap(runs, repeats=8, seed=3)]
    assert laws[0].values != bootstrap(runs, repeats=1, seed=4)[0].values
    low, high = interval(laws, "alpha", level=1.0)
    assert low < fit(runs).values["alpha"] < high


def test_rows_of_one_run_are_drawn_together() -> None:
    """With an error common to a run, resampling rows would promise far too much."""
    runs = trajectories(0, 0.02, 0.001)
    alone = Runs(runs.params, runs.tokens, runs.loss)
    width = [np.diff(interval(bootstrap(r, repeats=16), "alpha"))[0] for r in (runs, alone)]
    assert width[0] > 1.5 * width[1]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(8):
        low, high = interval(bootstrap(trajectories(seed, 0.006, 0.004), repeats=16), "beta", level=0.9)
        inside += low <= 0.37 <= high
    assert inside >= 5


def test_two_sizes_and_weights() -> None:
    """Few runs leave every resampled table with all its sizes; a row of weight zero stays out."""
    runs = trajectories(1, 0.005, 0.002)
    three = runs[np.isin(runs.run, ["0", "4", "9"])]
    assert len(bootstrap(three, repeats=5)) == 5
    weights = (runs.run != "3").astype(float)
    assert {law.rows for law in bootstrap(runs, repeats=3, weights=weights)} == {72}
    with pytest.raises(ValueError, match="too few"):
        bootstrap(runs[:4])
