import numpy as np
import pytest

from genus.plan.machine.cost import Cost, SimpleCost, affordable, spend, trajectory_tokens


class Slow(SimpleCost):
    """Seconds that are no straight line in tokens: a start-up and a cache that overflows."""

    def seconds(self, params, tokens):
        return 2.0 + super().seconds(params, tokens) * (1 + 0.3 * np.tanh(np.asarray(tokens) / 1e7))


def test_simple_cost_is_a_cost():
    cost = SimpleCost([3e6, 1e6], rate=1e9, per_token=1e5)
    assert isinstance(cost, Cost)
    assert cost.sizes.tolist() == [1e6, 3e6]
    assert cost.flops(1e6, 10) == 6.1e7
    assert cost.seconds(1e6, 10) == 0.061


@pytest.mark.parametrize("by", ["seconds", "flops"])
@pytest.mark.parametrize("kind", [SimpleCost, Slow])
def test_a_budget_buys_exactly_the_tokens_it_pays_for(kind, by):
    cost = kind([1e5, 1e6, 1e7])
    budgets = np.array([1e3, 1e4, 1e6]) * (1 if by == "seconds" else 1e10)
    tokens = affordable(cost, cost.sizes[:, None], budgets, by)
    assert tokens.shape == (3, 3)
    np.testing.assert_allclose(spend(cost, cost.sizes[:, None], tokens, by), np.broadcast_to(budgets, (3, 3)), rtol=1e-9)


def test_a_budget_below_the_start_up_buys_nothing():
    assert affordable(Slow([1e6]), 1e6, 1.0) == 0


def test_unknown_unit():
    with pytest.raises(ValueError, match="seconds or flops"):
        affordable(SimpleCost(), 1e6, 1.0, "hours")


def test_no_sizes():
    with pytest.raises(ValueError, match="at least one size"):
        SimpleCost([])


def test_a_trunk_is_paid_once():
    assert trajectory_tokens([100]) == 100
    assert trajectory_tokens([25, 50, 100]) == 0.8 * 100 + 0.2 * 175
