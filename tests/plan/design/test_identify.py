import json

import numpy as np
import pytest

from genus.plan.design.identify import better_design, collinearity, fit_many, identifiability
from genus.plan.design.prior import Prior
from genus.plan.machine.cost import trajectory_tokens

LADDER = np.geomspace(1e5, 3.2e6, 6)


def grid(sizes, lengths):
    n, d = np.meshgrid(sizes, lengths, indexing="ij")
    return n.ravel(), d.ravel()


GRID = grid(np.geomspace(1e5, 3.2e6, 4), np.geomspace(2e6, 5e7, 4))


def test_a_ladder_of_twenty_tokens_per_parameter_is_refused_with_a_better_design():
    ladder = identifiability(LADDER, 20 * LADDER)
    assert "tokens follow size" in ladder.refused and "Better, for no more compute: 100k, 317k" in ladder.refused
    n, d = np.array(ladder.better).T
    spent = sum(size * trajectory_tokens(d[n == size]) for size in np.unique(n))
    assert spent <= np.sum(20 * LADDER**2) * (1 + 1e-9)
    better = identifiability(n, d, target=ladder.target)
    assert better.refused is None
    assert better.regret < 0.1 * ladder.regret
    assert better.condition < 1e-3 * ladder.condition
    width = [np.log(i.spread["alpha"][1] / i.spread["alpha"][0]) for i in (better, ladder)]
    assert width[0] < 0.3 * width[1]


def test_a_ladder_with_some_scatter_is_still_refused():
    rng = np.random.default_rng(0)
    tokens = 20 * LADDER * np.exp(0.1 * rng.standard_normal(6))
    assert 0.97 < collinearity(LADDER, tokens) < 1
    assert "R² of log tokens on log size is 0.9" in identifiability(LADDER, tokens).refused


@pytest.mark.parametrize(
    "params, tokens, words",
    [
        ([1e6, 2e6], [4e7, 2e7], "1 different budget,"),
        ([1e6, 2e6, 1e6, 2e6], [2e7, 2e7, 4e7, 4e7], "2 different sizes"),
        ([1e6, 2e6, 4e6, 8e6], [2e7, 2e7, 2e7, 2e7], "1 different number of tokens"),
        ([1e6], [2e7], "1 different budget,"),
    ],
)
def test_too_few_budgets_sizes_or_lengths(params, tokens, words):
    judged = identifiability(params, tokens)
    assert words in judged.refused
    assert identifiability(*np.array(judged.better).T).refused is None


def test_a_grid_is_accepted_and_less_noise_tells_more():
    loud, quiet = identifiability(*GRID, noise=0.02), identifiability(*GRID, noise=0.002)
    assert loud.refused is None and loud.better == ()
    assert (loud.budgets, loud.sizes, loud.lengths) == (10, 4, 4)
    assert quiet.regret < loud.regret and quiet.error[1] - quiet.error[0] < loud.error[1] - loud.error[0]
    assert quiet.spread["alpha"][0] < 0.348 * 1.1 and quiet.spread["alpha"][1] > 0.348 / 1.1
    assert loud.condition == quiet.condition < 1000


def test_the_stated_error_is_that_of_fresh_simulations():
    """A refit of other noise falls inside the stated interval about nine times in ten."""
    law, noise = Prior(), 0.01
    judged = identifiability(*GRID, law, target=(1e7, 3e8), noise=noise)
    rng = np.random.default_rng(1)
    true = law.predict(*GRID)
    fits = fit_many(*GRID, true * np.exp(noise * rng.standard_normal((150, len(true)))), 1 / true)
    centre = [np.exp(np.log(x).mean()) for x in GRID]
    e, a, b, alpha, beta = fits.T
    errors = (e + a * (1e7 / centre[0]) ** -alpha + b * (3e8 / centre[1]) ** -beta) / law.predict(1e7, 3e8) - 1
    inside = np.mean((errors > judged.error[0]) & (errors < judged.error[1]))
    assert 0.84 < inside < 0.96


def test_a_refit_without_noise_finds_the_law():
    law = Prior(alpha=0.36, beta=0.4)
    fit = fit_many(*GRID, law.predict(*GRID)[None], 1 / law.predict(*GRID))[0]
    np.testing.assert_allclose(fit[3:], [0.36, 0.4], rtol=0.1)  # the grid's step
    assert np.all(fit[:3] >= 0)


def test_coefficients_are_never_negative():
    """Losses that rise with size: size adds nothing rather than less than nothing."""
    n, d = GRID
    fit = fit_many(n, d, (1 + 0.1 * np.log(n / n.min()) + (d / d.min()) ** -0.3)[None], np.ones(len(n)))[0]
    assert fit[1] == 0 and fit[2] > 0


def test_better_design_spans_what_was_asked():
    cells = np.array(better_design(LADDER, 20 * LADDER))
    assert cells[:, 0].min() == pytest.approx(1e5) and cells[:, 0].max() == pytest.approx(3.2e6)
    assert cells[:, 1].max() / cells[:, 1].min() == pytest.approx(32)
    assert collinearity(*cells.T) < 0.01


def test_json_and_bad_input():
    assert json.loads(json.dumps(identifiability(LADDER, 20 * LADDER).to_json()))["collinearity"] == pytest.approx(1)
    assert json.loads(json.dumps(identifiability([1e6], [1e7]).to_json(), allow_nan=False))["condition"] is None
    for params, tokens in (([], []), ([1e6, -1], [1e6, 1e6]), ([1e6, np.nan], [1e6, 1e6])):
        with pytest.raises(ValueError, match="positive numbers"):
            identifiability(params, tokens)


def test_a_published_table_is_judged(shared_data):
    """Muennighoff et al. 2023 trained every size at many lengths: their table is well posed."""
    rows = np.genfromtxt(
        shared_data / "scaling/datablations/runs_fit_outliers_removed.csv",
        delimiter=",",
        names=True,
        dtype=None,
        encoding="utf-8",
    )
    judged = identifiability(rows["params"] * 1e9, rows["tokens"] * 1e9, Prior(reference=(1e9, 2e10)), noise=0.01)
    assert judged.refused is None
    assert judged.regret < 0.01
