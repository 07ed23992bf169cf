"""Every filter against its definition in plain Python, and the draw against the probabilities it should have."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.generate.sampling import OUT, Sampling, choose, draw, keep_min_p, keep_top_k, keep_top_p

logits = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=1, max_size=12)  # halves: ties are common


def probabilities(values: list[float]) -> list[float]:
    weights = [math.exp(v) if v > OUT else 0.0 for v in values]
    return [w / sum(weights) for w in weights]


def top_k(values: list[float], k: int) -> set[int]:
    border = sorted(values, reverse=True)[: k or len(values)][-1]
    return {i for i, v in enumerate(values) if v >= border}


def top_p(values: list[float], p: float) -> set[int]:
    kept, total, probs = set(), 0.0, probabilities(values)
    for i in sorted(range(len(values)), key=lambda i: (-values[i], i)):
        if total >= p and p < 1 and kept:
            break
        kept.add(i)
        total += probs[i]
    return kept


def min_p(values: list[float], p: float) -> set[int]:
    probs = probabilities(values)
    return {i for i, q in enumerate(probs) if q >= p * max(probs) * (1 - 1e-12)}


def survivors(row: torch.Tensor) -> set[int]:
    return {i for i, v in enumerate(row.tolist()) if v > OUT}


@settings(max_examples=200, deadline=None)
@given(logits, st.integers(0, 14))
def test_top_k(values: list[float], k: int) -> None:
    kept = keep_top_k(torch.tensor([values]).double(), torch.tensor([k]))
    assert survivors(kept[0]) == top_k(values, k)


@settings(max_examples=200, deadline=None)
@given(logits, st.sampled_from([0.05, 0.31, 0.62, 0.97, 1.0]))
def test_top_p(values: list[float], p: float) -> None:
    kept = keep_top_p(torch.tensor([values]).double(), torch.tensor([p]).double())
    assert survivors(kept[0]) == top_p(values, p)


@settings(max_examples=200, deadline=None)
@given(logits, st.sampled_from([0.0, 0.013, 0.21, 0.77, 1.0]))
def test_min_p(values: list[float], p: float) -> None:
    kept = keep_min_p(torch.tensor([values]).double(), torch.tensor([p]).double())
    assert survivors(kept[0]) == min_p(values, p)


def test_rows_keep_their_own_rules() -> None:
    values = [0.0, 1.0, 2.0, 3.0]
    rows = torch.tensor([values] * 3).double()
    assert [survivors(r) for r in keep_top_k(rows, torch.tensor([0, 1, 2]))] == [{0, 1, 2, 3}, {3}, {2, 3}]
    assert [survivors(r) for r in keep_top_p(rows, torch.tensor([1.0, 0.1, 0.7]))] == [{0, 1, 2, 3}, {3}, {2, 3}]
    assert [survivors(r) for r in keep_min_p(rows, torch.tensor([0.0, 1.0, 0.3]))] == [{0, 1, 2, 3}, {3}, {2, 3}]


def test_draw_follows_the_cumulative_distribution() -> None:
    probs = torch.tensor([[0.2, 0.0, 0.5, 0.3]]).double()
    uniform = torch.tensor([0.0, 0.1999, 0.2001, 0.6999, 0.7001, 0.9999999])
    ids = draw(probs.log().expand(6, 4), uniform.double())
    assert ids.tolist() == [0, 0, 2, 2, 3, 3]


def test_draw_never_takes_a_token_that_was_filtered_out() -> None:
    values = torch.tensor([[1.0, OUT, 0.5, OUT, OUT]])
    for uniform in (0.0, 0.5, 0.999999999999, 1.0):
        assert draw(values, torch.tensor([uniform]).double()).item() in (0, 2)


def test_temperature_comes_first() -> None:
    """At temperature 2 the best token has 0.62 of the probability, at 1 it has 0.73: top-p 0.7 keeps one token or two."""
    row, uniform = torch.tensor([[1.0, 0.0]]), torch.tensor([0.999]).double()
    assert choose(row, [Sampling(1.0, top_p=0.7)], uniform).item() == 0
    assert choose(row, [Sampling(2.0, top_p=0.7)], uniform).item() == 1


def test_top_k_comes_before_top_p() -> None:
    """Of four equal tokens top-k... keeps ties, so use unequal ones: within the best two the first alone reaches 0.55."""
    row = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    uniform = torch.tensor([0.999]).double()
    assert choose(row, [Sampling(1.0, top_k=2, top_p=0.55)], uniform).item() == 0  # 0.4 / 0.7 = 0.57
    assert choose(row, [Sampling(1.0, top_p=0.55)], uniform).item() == 1


def test_temperature_zero_is_the_best_token_the_lowest_id_among_equals() -> None:
    rows = torch.tensor([[0.0, 3.0, 3.0], [5.0, 1.0, 1.0]])
    assert choose(rows, [Sampling(0), Sampling(0)], torch.tensor([0.9, 0.9]).double()).tolist() == [1, 0]


def test_frequencies_are_the_probabilities() -> None:
    random.seed(3)
    n, values = 4000, torch.tensor([0.5, 1.5, -1.0, 0.0])
    uniform = torch.tensor([random.random() for _ in range(n)]).double()
    ids = choose(values.expand(n, 4), [Sampling(0.7)] * n, uniform)
    expected = (values.double() / 0.7).softmax(0)
    for i, p in enumerate(expected.tolist()):
        assert abs((ids == i).float().mean().item() - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        choose(torch.tensor([[0.0, float("nan")]]), [Sampling(0)], torch.zeros(1).double())


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": 2}]
)
def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Sampling(**wrong)
