import numpy as np
import pytest

from genus.plan.design.cells import ShareTooSmall, design, makespan
from genus.plan.design.identify import fit_many, identifiability
from genus.plan.design.information import FEWEST_SIZES, Rules
from genus.plan.design.prior import PRIORS, Prior
from genus.plan.machine.cost import SimpleCost, affordable, trajectory_tokens
from genus.plan.machine.model import CountCost

SIZES = np.geomspace(3e4, 3e7, 16)
COST = SimpleCost(SIZES, rate=1.5e10, per_token=2e5)
SLOW = SimpleCost(SIZES, rate=1e10, per_token=4e5)
COUNTED = SimpleCost([1.0], operations=1e5, rate=1e10)
RULES = Rules(batch_tokens=2048)
SHARE, TARGET = 1080.0, 6120.0  # 15 % of two hours

TRUE_LAWS = {
    "prior": PRIORS[0],
    "steep": Prior(E=1.1, a=0.35, b=0.35, alpha=0.5, beta=0.5),
    "slow in size": Prior(alpha=0.28, beta=0.5),
    "slow in data": Prior(alpha=0.5, beta=0.28),
    "bent": Prior(alpha=0.3, beta=0.35, bracket=1.2),
}


def simulate(cells, law, count=100, noise=0.005, shared=0.005):
    """Mean regret of the size, and root mean square error of the loss, when `cells` are run, fitted and believed."""
    n = np.array([p for p, h in cells for _ in h])
    d = np.array([x for _, h in cells for x in h], np.float64)
    run = np.array([i for i, (_, h) in enumerate(cells) for _ in h])
    rng = np.random.default_rng(0)
    true = law.predict(n, d)
    errors = noise * rng.standard_normal((count, len(n))) + shared * rng.standard_normal((count, len(cells)))[:, run]
    e, a, b, alpha, beta = (v[:, None] for v in fit_many(n, d, true * np.exp(errors), 1 / true).T)
    lengths = affordable(COST, SIZES, TARGET)
    real = law.predict(SIZES, lengths)
    guess = e + a * (SIZES / np.exp(np.log(n).mean())) ** -alpha + b * (lengths / np.exp(np.log(d).mean())) ** -beta
    chosen = guess.argmin(1)
    wrong = guess[np.arange(count), chosen] / real[chosen] - 1
    return np.mean(real[chosen] / real.min() - 1), np.sqrt(np.mean(wrong**2))


def ladder(seconds, count=5):
    """Sizes a factor of two apart, 20 tokens per parameter each, for the same seconds."""
    tops = np.geomspace(SIZES[0], SIZES[-1], 300)
    top = max(t for t in tops if sum(COST.seconds(n, 20 * n) for n in t * 0.5 ** np.arange(count)) <= seconds)
    return [(n, (20 * n,)) for n in top * 0.5 ** np.arange(count)]


def at_random(seconds, most_flops, rng):
    """Trajectories drawn from the ladder's sizes and the same horizons, until the seconds are spent."""
    least, cells, left = RULES.batch_tokens * RULES.updates, [], seconds
    for _ in range(300):
        n, count = rng.choice(SIZES), rng.integers(2, 6)
        horizons = least * 2 ** rng.uniform(1, 6) * 0.5 ** np.arange(count)[::-1]
        horizons = horizons[horizons >= least]
        price = COST.seconds(n, trajectory_tokens(horizons))
        light = COST.flops(n, horizons[-1]) <= most_flops
        if light and price <= left and all(n != other for other, _ in cells):
            cells.append((n, tuple(horizons)))
            left -= price
    return cells


@pytest.fixture(scope="module")
def made():
    return design({"gpt": COST}, SHARE, TARGET, cores=2, rules=RULES)


@pytest.fixture(scope="module")
def rivals(made):
    rng = np.random.default_rng(0)
    most = 0.1 * COST.flops(*made.outlooks["gpt"].target)
    drawn = [at_random(made.seconds, most, rng) for _ in range(16)]
    return [cells for cells in drawn if len(cells) >= FEWEST_SIZES][:8]


def test_beats_a_ladder_and_chance_for_the_same_seconds(made, rivals):
    own = [(c.params, c.horizons) for c in made]
    ours = np.array([simulate(own, law) for law in TRUE_LAWS.values()])
    steps = np.array([simulate(ladder(made.seconds), law, 40) for law in TRUE_LAWS.values()])
    chance = np.array([np.median([simulate(cells, law, 40) for cells in rivals], axis=0) for law in TRUE_LAWS.values()])
    assert np.all(ours[:, 0] < 0.1 * steps[:, 0]) and np.all(ours[:, 1] < 0.2 * steps[:, 1])
    assert np.all(ours[:, 0] < 0.005)
    assert np.all(ours.mean(0) < chance.mean(0))


def test_the_outlook_is_near_what_happens(made):
    _, error = simulate([(c.params, c.horizons) for c in made], PRIORS[0])
    assert 0.4 < made.outlooks["gpt"].error / (1.645 * error) < 2.5


def test_bounds_are_kept(made):
    assert made.wall <= SHARE and made.seconds <= 2 * SHARE
    assert made.seconds == pytest.approx(sum(c.seconds for c in made))
    assert [c.seconds for c in made] == sorted(c.seconds for c in made)
    assert len({c.params for c in made}) == len(made) >= 3
    points = [(c.params, h) for c in made for h in c.horizons]
    assert len(points) >= 6
    target = made.outlooks["gpt"].target
    assert COST.seconds(*target) == pytest.approx(TARGET)
    assert max(COST.flops(n, d) for n, d in points) <= 0.1 * COST.flops(*target) * (1 + 1e-6)
    assert min(d for _, d in points) >= 200 * 2048
    assert all(c.seconds == pytest.approx(COST.seconds(c.params, trajectory_tokens(c.horizons)), rel=1e-5) for c in made)
    judged = identifiability(*np.array(points).T, target=target)
    assert judged.refused is None and judged.collinearity < 0.5 and judged.budgets >= 3


def test_most_of_the_time_is_used(made):
    assert made.wall > 0.8 * SHARE


def test_more_time_tells_more():
    errors = [design({"gpt": COST}, s, 6 * s, cores=2, rules=RULES).outlooks["gpt"].error for s in (300, 3000)]
    assert errors[1] < errors[0]


def test_branches_share_the_time_and_a_counted_one_gets_shares_of_the_data():
    costs = {"ngram": COUNTED, "gpt": COST, "deltanet": SLOW}
    made = design(costs, 1800, 10200, cores=2, rules=Rules(batch_tokens=2048, unique=2e7))
    assert made.wall <= 1800
    (counted,) = [c for c in made if c.branch == "ngram"]
    assert counted.horizons[-1] == 2e7 and len(counted.horizons) == 6
    np.testing.assert_allclose(np.diff(np.log2(counted.horizons)), 1, rtol=1e-5)
    assert set(made.outlooks) == {"gpt", "deltanet"}
    for name in ("gpt", "deltanet"):
        cells = [c for c in made if c.branch == name]
        assert len(cells) >= 3 and sum(len(c.horizons) for c in cells) >= 6


def test_small_data_is_repeated_and_large_data_is_not():
    small = design({"gpt": COST}, SHARE, TARGET, cores=2, rules=Rules(batch_tokens=2048, unique=1e6))
    assert sum(h > 1e6 for c in small for h in c.horizons) >= 3
    assert max(h for c in small for h in c.horizons) <= 8e6
    large = design({"gpt": COST}, SHARE, TARGET, cores=2, rules=Rules(batch_tokens=2048, unique=2e8))
    assert large.outlooks["gpt"].target[1] <= 2e8
    assert max(h for c in large for h in c.horizons) <= 2e8


def test_memory_counts_every_process():
    bound = 4.0 * COST.memory(SIZES[6])
    made = design({"gpt": COST}, SHARE, TARGET, cores=4, rules=Rules(batch_tokens=2048, memory=bound))
    assert max(c.params for c in made) <= SIZES[6]
    with pytest.raises(ShareTooSmall, match="2 sizes fit in memory") as error:
        design({"gpt": COST}, SHARE, TARGET, cores=4, rules=Rules(batch_tokens=2048, memory=4.0 * COST.memory(SIZES[1])))
    assert error.value.budget == float("inf")


def test_noise_that_is_shared_asks_for_more_sizes():
    def sizes(**noise):
        return len(design({"gpt": COST}, 4000, 22000, cores=2, rules=Rules(batch_tokens=2048, **noise)))

    assert sizes(noise=0.002, shared=0.02) >= sizes(noise=0.02, shared=0.0)


def test_too_small_a_share_says_what_would_do():
    costs = dict.fromkeys(("gpt", "llama"), COST) | {"lstm": SLOW, "deltanet": SLOW}
    with pytest.raises(ShareTooSmall) as error:
        design(costs, 90, 2000, cores=2, rules=RULES)
    refused = error.value
    assert refused.fits == ("gpt",)
    assert "4 branches" in str(refused) and "this one does for gpt" in str(refused)
    fewer = design({name: costs[name] for name in refused.fits}, 90, 2000, cores=2, rules=RULES)
    assert fewer.wall <= 90
    scale = refused.budget / 2090
    assert scale > 1
    enough = design(costs, 90 * scale * 1.1, 2000 * scale * 1.1, cores=2, rules=RULES)
    assert enough.wall <= 90 * scale * 1.1


def test_thirty_seconds_are_refused_with_a_budget_that_would_do():
    with pytest.raises(ShareTooSmall, match=r"gpt: the shortest useful run .* a budget of about .* does for none") as error:
        design({"gpt": COST}, 4.5, 25.5, rules=RULES)
    scale = 1.1 * error.value.budget / 30
    assert len(design({"gpt": COST}, 4.5 * scale, 25.5 * scale, rules=RULES)) >= 3


def test_a_corpus_of_a_few_kilobytes_is_refused():
    with pytest.raises(ShareTooSmall, match="longer than the corpus; bring more text"):
        design({"gpt": COST}, SHARE, TARGET, rules=Rules(batch_tokens=2048, unique=1e4))


def test_makespan_begins_with_the_cheapest():
    assert makespan([3, 1, 2], 1) == 6
    assert makespan([4, 1, 1], 2) == 5
    assert makespan([], 2) == 0


def test_counting_ends_with_the_whole_corpus_where_that_is_affordable() -> None:
    cost = CountCost(parameters=2e5, tokens=1e6, fixed=0.1, each=3e-6, error=0.0, worst=0.0, bytes=1e8, decode=1e-4)
    rules = Rules(unique=1e6)
    rich, poor = design({"ngram": cost}, 100.0, 1000.0, rules=rules), design({"ngram": cost}, 5.0, 1000.0, rules=rules)
    assert rich.cells[0].horizons[-1] == 1_000_000
    assert poor.cells[0].horizons[-1] < 1_000_000 and poor.cells[0].seconds <= 5.0
