from dataclasses import dataclass

import numpy as np
import pytest

from genus.plan.crossing import crossing, win_probability
from genus.plan.design.prior import Prior
from genus.plan.frontier import best, frontier, regret, tradeoff
from genus.plan.machine.cost import SimpleCost

SIZES = np.geomspace(1e4, 1e8, 81)
COST = SimpleCost(SIZES, rate=1e10)


@dataclass
class Band:
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Believed:
    """A forecast whose draws are laws around a true one."""

    def __init__(self, law: Prior, spread: float = 0.02, count: int = 200, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.law = law
        self.laws = [
            Prior(
                law.E * np.exp(spread * rng.standard_normal()),
                law.a * np.exp(spread * rng.standard_normal()),
                law.b * np.exp(spread * rng.standard_normal()),
                law.alpha + spread * rng.standard_normal(),
                law.beta + spread * rng.standard_normal(),
            )
            for _ in range(count)
        ]

    def predict(self, params, tokens, unique=None):
        low, high = np.percentile(self.draws(params, tokens, unique), [5, 95], axis=0)
        return Band(self.law.predict(params, tokens, unique), low, high)

    def draws(self, params, tokens, unique=None):
        return np.stack([law.predict(params, tokens, unique) for law in self.laws])


def test_the_optimum_is_where_the_law_has_it():
    law = Prior(alpha=0.35, beta=0.4)
    o = best(Believed(law), COST, 1e4)
    # Hoffmann et al. 2022, equation 4: the two slopes along 6 N D = C are equal
    a, b = law.a * law.reference[0] ** law.alpha, law.b * law.reference[1] ** law.beta
    g = (law.alpha * a / (law.beta * b)) ** (1 / (law.alpha + law.beta))
    ideal = g * (1e4 * 1e10 / 6) ** (law.beta / (law.alpha + law.beta))
    assert abs(np.log(o.params / ideal)) < np.log(SIZES[1] / SIZES[0])
    assert COST.seconds(o.params, o.tokens) == pytest.approx(1e4)
    assert o.params_low < o.params < o.params_high
    assert o.band.low < o.band.loss < o.band.high
    assert o.limited == ()
    assert 0 < o.regret < 0.01
    assert np.all(o.draws >= o.reachable)


def test_regret_is_that_of_the_true_law_when_it_is_known():
    sure = Believed(Prior(), spread=0.0, count=3)
    o = best(sure, COST, 1e4)
    assert o.regret == 0
    four = regret(sure, COST, 4 * o.params, 1e4)
    tokens = o.tokens / 4
    np.testing.assert_allclose(four, sure.law.predict(4 * o.params, tokens) - o.band.loss, rtol=1e-6)


def test_limits_name_themselves():
    f = Believed(Prior())
    free = best(f, COST, 1e4)
    tight = best(f, COST, 1e4, memory=COST.memory(free.params) / 3)
    assert tight.params <= free.params / 3 and tight.limited == ("memory",)
    assert tight.band.loss > free.band.loss
    assert best(f, COST, 1e4, decode=COST.decode_seconds(free.params) / 3).limited == ("decode",)
    small = best(f, COST, 1e4, unique=free.tokens / 100, passes=4)
    assert small.limited == ("data",) and small.tokens <= free.tokens / 25
    assert best(f, SimpleCost([1e4, 3e4, 1e5], rate=1e10), 1e4).limited == ("largest size",)
    with pytest.raises(ValueError, match=r"the smallest needs 1\.6e\+05 bytes"):
        best(f, COST, 1e4, memory=1e5)
    with pytest.raises(ValueError, match="one token"):
        best(f, COST, 1e-9)


def test_repeated_text_moves_the_optimum_to_larger_models():
    f = Believed(Prior())
    free = best(f, COST, 1e5)
    repeated = best(f, COST, 1e5, unique=free.tokens / 50)
    assert repeated.params > free.params
    assert repeated.band.loss > free.band.loss


def test_a_frontier_is_best_at_each_budget():
    f = Believed(Prior())
    budgets = np.geomspace(1e1, 1e6, 25)
    curve = frontier(f, COST, budgets)
    one = best(f, COST, budgets[7])
    assert (curve.params[7], curve.loss[7]) == (one.params, one.band.loss)
    assert np.all(np.diff(curve.loss) < 0) and np.all(np.diff(curve.params) >= 0)
    assert curve.draws.shape == curve.reachable.shape == (200, 25)
    assert np.all(curve.low <= curve.loss) and np.all(curve.loss <= curve.high)


def test_budgets_too_small_for_any_size_are_nan():
    curve = frontier(Believed(Prior()), COST, [1e-9, 1e3])
    assert np.isnan(curve.loss[0]) and np.isnan(curve.draws[:, 0]).all()
    assert np.isfinite(curve.loss[1])


def test_tradeoff_of_memory_at_one_budget():
    f = Believed(Prior())
    curve = tradeoff(f, COST, 1e4, against="memory")
    free = best(f, COST, 1e4)
    assert len(curve.budgets) == len(SIZES)
    assert curve.loss[-1] == free.band.loss and curve.params[-1] == free.params
    assert np.all(np.diff(curve.loss) <= 0)
    assert np.all(COST.memory(curve.params) <= curve.budgets * (1 + 1e-12))
    tight = best(f, COST, 1e4, memory=curve.budgets[20])
    assert curve.params[20] == tight.params


# One branch is good at once, the other has the lower floor.
QUICK = Prior(E=1.0, a=0.35, b=0.35)
DEEP = Prior(E=0.7, a=0.62, b=0.62)


def known_crossing():
    budgets = np.geomspace(1e0, 1e8, 801)
    gap = frontier(Believed(DEEP, 0, 1), COST, budgets).loss - frontier(Believed(QUICK, 0, 1), COST, budgets).loss
    at = np.flatnonzero(np.diff(np.sign(gap)))
    assert len(at) == 1
    return budgets[at[0]]


def test_two_known_laws_cross_inside_the_interval():
    budgets = np.geomspace(1e0, 1e8, 33)
    truth = known_crossing()
    quick, deep = (frontier(Believed(law, 0.01, seed=i), COST, budgets) for i, law in enumerate((QUICK, DEEP)))
    c = crossing(quick, deep)
    assert c.low < truth < c.high
    assert c.probability > 0.95 and c.overtakes
    assert abs(np.log(c.middle / truth)) < 0.5
    back = crossing(deep, quick)
    assert not back.overtakes and back.middle == pytest.approx(c.middle, rel=0.2)


def test_a_certain_crossing_is_exact():
    budgets = np.geomspace(1e0, 1e8, 33)
    quick, deep = (frontier(Believed(law, 0, 2), COST, budgets) for law in (QUICK, DEEP))
    c = crossing(quick, deep)
    assert c.low == c.high == pytest.approx(known_crossing(), rel=0.05)
    assert c.probability == 1


def test_never_within_reach():
    budgets = np.geomspace(1e0, 1e8, 33)
    quick, deep = (frontier(Believed(law, 0.005, seed=i), COST, budgets) for i, law in enumerate((QUICK, DEEP)))
    assert crossing(quick, deep, reach=known_crossing() / 100) is None
    worse = frontier(Believed(Prior(E=1.2, a=0.5, b=0.5), 0.005), COST, budgets)
    assert crossing(quick, worse) is None
    assert crossing(quick, frontier(Believed(DEEP), COST, budgets * 1e9)) is None  # no budget in common
    with pytest.raises(ValueError, match="same unit"):
        crossing(quick, frontier(Believed(DEEP), COST, budgets, "flops"))


def test_win_probabilities():
    budgets = np.geomspace(1e0, 1e8, 33)
    quick, deep = (frontier(Believed(law, 0.01), COST, budgets) for law in (QUICK, DEEP))
    truth = known_crossing()
    early, even, late = (win_probability([quick, deep], b)[1] for b in (truth / 30, truth, truth * 30))
    assert early < 0.05 < 0.25 < even < 0.75 < 0.95 < late
    assert win_probability([quick, deep], 1e3).sum() == pytest.approx(1)
    tiny = frontier(Believed(QUICK), COST, [1e-9, 1e-8])
    assert win_probability([tiny, deep], 1e3).tolist() == [0, 1]
    with pytest.raises(ValueError, match="no frontier contains"):
        win_probability([quick], 1e20)


def test_one_seed_does_not_pair_two_branches():
    """Forecasts that share a seed share their random numbers; the same law twice must still be a draw, not a tie."""
    budgets = np.geomspace(1e2, 1e4, 3)
    twice = [frontier(Believed(QUICK, 0.01, seed=0), COST, budgets) for _ in range(2)]
    p = win_probability(twice, 1e3)
    assert 0.35 < p[0] < 0.65


def test_a_count_model_has_one_size_and_ends_with_the_corpus():
    o = best(Believed(Prior()), SimpleCost([1.0], operations=100), 1e9, unique=1e6, passes=1)
    assert (o.params, o.tokens) == (1.0, 1e6)
    assert o.limited == ("data",) and o.regret == 0
