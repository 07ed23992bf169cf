"""The choice and its advice, on surfaces whose truth is known."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from genus.plan.decide import YEAR, Candidate, Situation, decide
from genus.plan.machine.cost import SimpleCost

HOUR = 3600.0
DRAWS = np.random.default_rng(0).normal(size=(200, 3))


@dataclass(frozen=True)
class Surface:
    """E + A/N^alpha + B/D'^beta, repeated tokens worth less; the draws scatter its level and both terms."""

    floor: float = 1.0
    a: float = 30.0
    b: float = 60.0
    alpha: float = 0.35
    beta: float = 0.3
    level: float = 0.01
    slope: float = 0.05
    worn: float = 15.4

    def terms(self, params, tokens, unique):
        tokens, unique = np.asarray(tokens, float), np.asarray(tokens if unique is None else unique, float)
        repeats = np.maximum(tokens / unique - 1, 0)
        worth = unique * (1 + self.worn * (1 - np.exp(-repeats / self.worn)))
        size = np.zeros(np.shape(params)) if self.a == 0 else self.a / np.asarray(params, float) ** self.alpha
        return np.broadcast_arrays(size, self.b / worth**self.beta)

    def predict(self, params, tokens, unique=None):
        loss = self.floor + sum(self.terms(params, tokens, unique))
        draws = self.draws(params, tokens, unique)
        return SimpleNamespace(loss=loss, low=np.percentile(draws, 5, axis=0), high=np.percentile(draws, 95, axis=0))

    def deviation(self, params, tokens, unique=None):
        return np.log(self.draws(params, tokens, unique)).std(axis=0)

    def ratio(self, params, tokens):
        return np.asarray(params) * np.asarray(tokens) / 1e13

    def draws(self, params, tokens, unique=None):
        size, data = self.terms(params, tokens, unique)
        z = DRAWS.reshape(len(DRAWS), 3, *([1] * size.ndim))
        scale = 1 + self.slope * z
        return self.floor * (1 + self.level * z[:, 0]) + size * scale[:, 1] + data * scale[:, 2]


SIZES = np.geomspace(1e5, 1e8, 25)
COST = SimpleCost(SIZES, rate=1e11)
COUNT = SimpleCost(np.array([2e6]), operations=1.0, rate=1e12)


def network(name: str = "llama", cost=COST, **surface) -> Candidate:
    return Candidate(name, name, Surface(**surface), cost, train=lambda n, d: {"parameters": int(n), "tokens": int(d)})


def ngram(**surface) -> Candidate:
    return Candidate(
        "ngram", "ngram", Surface(**{"floor": 1.6, "a": 0.0, "b": 40.0, "beta": 0.25, **surface}), COUNT, counted=True
    )


SITUATION = Situation(seconds=HOUR, unique=1e9)


def test_the_lowest_prediction_is_recommended_with_the_rest_in_order() -> None:
    found = decide([network("lstm", floor=1.3), network("llama"), ngram()], SITUATION)
    best = found.recommendation
    assert best.branch == "llama" and list(found.best) == ["llama", "lstm", "ngram"]
    assert found.best["llama"] is best
    assert best.seconds == pytest.approx(HOUR, rel=1e-6)
    assert best.options == {"parameters": int(best.params), "tokens": int(best.tokens)}
    assert best.low < best.loss < best.high
    assert best.deviation == pytest.approx(np.log(best.high / best.low) / 3.29, rel=0.2)
    assert best.ratio == pytest.approx(best.params * best.tokens / 1e13)
    assert best.curve[-1]["bpb"] == best.loss and best.curve[0]["bpb"] > best.loss and len(best.curve) > 10
    assert sum(choice.probability or 0 for choice in found.best.values()) == pytest.approx(1)
    # No size of the ladder would have been better.
    for size in SIZES:
        assert Surface().predict(size, COST.rate * HOUR / (6 * size)).loss >= best.loss - 1e-9
    assert "the lowest prediction" in best.why[0] and "lstm" in best.why[0]


def test_a_dropped_branch_stands_beside_and_is_not_recommended() -> None:
    found = decide([replace(network("llama"), alive=False), network("lstm", floor=1.3)], SITUATION)
    assert found.recommendation.branch == "lstm" and found.best["llama"].loss < found.recommendation.loss
    with pytest.raises(ValueError, match="no branch can be trained"):
        decide([replace(network(), alive=False)], SITUATION)


def test_half_and_double_stand_beside_it() -> None:
    found = decide([network()], SITUATION)
    half, double = found.alternatives
    assert [half.name, double.name] == ["llama-half", "llama-double"]
    assert half.params / found.recommendation.params == pytest.approx(0.5, rel=0.2)
    assert double.params / found.recommendation.params == pytest.approx(2, rel=0.2)
    for other in found.alternatives:
        assert other.loss >= found.recommendation.loss
        assert other.seconds == pytest.approx(HOUR, rel=1e-6)


def test_frontiers_of_everything_that_is_spent() -> None:
    found = decide([network(), ngram()], SITUATION)
    assert set(found.frontiers["llama"]) == {"seconds", "flops", "memory", "decode"}
    over = found.frontiers["llama"]["seconds"]
    assert over["budgets"].min() < HOUR < over["budgets"].max() and np.all(np.diff(over["loss"]) < 0)
    assert "memory" not in found.frontiers["ngram"]


def test_curves_of_equal_operations() -> None:
    found = decide([network(), ngram()], SITUATION)
    curves = found.isoflops["llama"]
    assert len(curves) == 6 and found.isoflops["ngram"] == []
    for curve in curves:
        assert 6 * np.array(curve["params"]) * curve["tokens"] == pytest.approx(curve["flops"], rel=1e-6)
        assert curve["loss"] == pytest.approx(Surface().predict(np.array(curve["params"]), curve["tokens"]).loss)
    assert curves[-1]["flops"] == pytest.approx(HOUR * COST.rate, rel=0.01)
    lowest = [curve["params"][int(np.argmin(curve["loss"]))] for curve in curves]
    assert lowest == sorted(lowest)


def test_a_crossing_is_said_in_the_order_of_the_budgets() -> None:
    fast = network("lstm", floor=1.3, a=10.0, b=40.0, level=0.001, slope=0.002)
    slow = network("llama", floor=1.0, level=0.001, slope=0.002)
    found = decide([slow, fast], Situation(seconds=600.0, unique=1e12))
    row = found.crossings[0]
    assert (row["first"], row["second"]) == ("lstm", "llama") and row["low"] < row["middle"] < row["high"]
    before = decide([slow, fast], Situation(seconds=row["middle"] / 3, unique=1e12))
    assert before.recommendation.branch == "lstm"
    assert any(line.startswith("more time") and "llama" in line for line in before.recommendation.would_change)
    after = decide([slow, fast], Situation(seconds=row["middle"] * 3, unique=1e12))
    assert after.recommendation.branch == "llama"
    assert any(line.startswith("less time") and "lstm" in line for line in after.recommendation.would_change)


def test_never_within_reach() -> None:
    found = decide([network(), network("gpt", floor=2.0)], SITUATION)
    assert found.crossings[0]["middle"] is None and found.crossings[0]["reach"] == 10 * HOUR
    assert found.recommendation.would_change == ["nothing within ten times this budget: llama stays ahead"]


def test_counting_is_recommended_where_it_is_better() -> None:
    found = decide([network(floor=2.5), ngram()], Situation(seconds=60.0, unique=1e7))
    assert found.recommendation.branch == "ngram" and found.recommendation.tokens == 1e7
    assert found.recommendation.seconds < 60
    assert found.advice[0].startswith("use the ngram: counting takes") and "llama" in found.advice[0]
    assert any(line.startswith("more data, not more time") for line in found.advice)


def test_counting_that_is_nearly_as_good_is_spoken_of() -> None:
    loss = decide([network()], SITUATION).recommendation.loss
    counted = ngram()
    behind = float(counted.forecast.predict(1, 1e9).loss)
    near = replace(counted, forecast=replace(counted.forecast, floor=counted.forecast.floor + 1.02 * loss - behind))
    found = decide([network(), near], SITUATION)
    assert found.recommendation.branch == "llama"
    assert any("the ngram is only 2.0% behind" in line for line in found.advice)


def test_a_base_that_is_better_is_recommended() -> None:
    base = Candidate("base", "models/gpt2", Surface(floor=1.0, a=0.0, b=20.0), SimpleCost(np.array([1e8]), rate=1e11), base=True)
    found = decide([network(), base], SITUATION)
    assert found.recommendation.branch == "base"
    assert any(line.startswith("train models/gpt2 further instead") and "llama" in line for line in found.advice)
    worse = replace(base, forecast=Surface(floor=2.0))
    assert any("does not pay" in line for line in decide([network(), worse], SITUATION).advice)


def test_more_data_or_more_compute() -> None:
    starved = decide([network()], Situation(seconds=10 * HOUR, unique=2e6))
    assert any(line.startswith("more data would buy more than more compute") for line in starved.advice)
    fed = decide([network()], Situation(seconds=HOUR, unique=1e12))
    assert any(line.startswith("more compute would help") and "would not help yet" in line for line in fed.advice)
    assert not any("pass" in line for line in fed.advice)


def test_passes_that_help() -> None:
    found = decide([network(worn=5.0)], Situation(seconds=10 * HOUR, unique=2e6))
    line = next(line for line in found.advice if "passes help" in line)
    passes = int(line.split()[0])
    loss = [
        float(Surface(worn=5.0).predict(found.recommendation.params, e * 2e6, 2e6).loss) for e in (passes / 2, passes, 2 * passes)
    ]
    assert (loss[0] - loss[1]) / loss[0] >= 0.005 > (loss[1] - loss[2]) / loss[1]


def test_passes_are_bounded() -> None:
    bounded = replace(network(), passes=4.0)
    found = decide([bounded], Situation(seconds=10 * HOUR, unique=2e6))
    assert found.recommendation.tokens == 8e6
    assert any(line.startswith("more data: the run is kept to 4 passes") for line in found.recommendation.would_change)


def test_memory_bounds_the_size_and_says_so() -> None:
    free = decide([network()], SITUATION).recommendation
    memory = float(COST.memory(free.params)) / 4
    found = decide([network()], replace(SITUATION, memory=memory))
    assert found.recommendation.params <= free.params / 4 * 1.001
    assert any(line.startswith("more memory") for line in found.recommendation.would_change)


def test_a_branch_that_does_not_fit_is_refused_with_its_reason() -> None:
    large = network("llama", cost=SimpleCost(np.array([1e9, 2e9]), rate=1e11))
    found = decide([large, network("lstm")], replace(SITUATION, memory=1e9))
    assert found.recommendation.branch == "lstm"
    assert "smallest needs" in found.refused["llama"]
    with pytest.raises(ValueError, match=r"no branch can be trained: llama: .*smallest needs"):
        decide([large], replace(SITUATION, memory=1e9))
    with pytest.raises(ValueError, match="does not train the smallest model"):
        decide([large], replace(SITUATION, seconds=1e-3))


def test_serving_gives_up_a_little_loss_for_cheaper_decoding() -> None:
    slow = network(cost=SimpleCost(SIZES, rate=1e11, per_token=0.0))
    free = decide([slow], SITUATION).recommendation
    found = decide([slow], replace(SITUATION, serve=1e8))
    served = found.recommendation
    assert served.params < free.params and served.loss <= 1.01 * free.loss
    year = served.seconds + YEAR * 1e8 * (served.decode or 0)
    assert year < free.seconds + YEAR * 1e8 * (free.decode or 0)
    for size in SIZES:  # by brute force
        loss = float(Surface().predict(size, 1e11 * HOUR / (6 * size)).loss)
        if loss <= 1.01 * free.loss:
            assert year <= HOUR + YEAR * 1e8 * 2 * size / 1e11 + 1e-6
    assert any("takes the least time in a year" in line for line in served.why)


def test_a_demand_that_nothing_meets_is_said_and_left_out() -> None:
    found = decide([network()], replace(SITUATION, serve=1e15))
    assert "nothing keeps up" in found.advice[0]


def test_price() -> None:
    found = decide([network()], replace(SITUATION, price=2.5))
    assert any(line == "it costs 2.50 at 2.5 an hour" for line in found.recommendation.why)
