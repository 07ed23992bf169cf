"""Every filter against its definition in plain Python, and the draw against the probabilities it should have."""

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.generate.rules import OUT
from genus.generate.sampling import NOTHING, Choice, Sampling, choose, draw, keep_min_p, keep_top_k, keep_top_p, pick
from genus.generate.sampling import probabilities as drawn_from
from genus.generate.sequence import Request, Sequence
from genus.prepare.tokenizer import bytes_tokenizer

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
    ids = draw(probs.expand(6, 4), uniform.double())
    assert ids.tolist() == [0, 0, 2, 2, 3, 3]


def test_draw_never_takes_a_token_that_was_filtered_out() -> None:
    values = torch.tensor([[1.0, OUT, 0.5, OUT, OUT]])
    for uniform in (0.0, 0.5, 0.999999999999, 1.0):
        assert draw(values.softmax(-1), torch.tensor([uniform]).double()).item() in (0, 2)


def test_temperature_comes_first() -> None:
    """At temperature 2 the best token has 0.62 of the probability, at 1 it has 0.73: top-p 0.7 keeps one token or two."""
    row, uniform = torch.tensor([[1.0, 0.0]]), [0.999]
    assert choose(row, [Sampling(1.0, top_p=0.7)], uniform).item() == 0
    assert choose(row, [Sampling(2.0, top_p=0.7)], uniform).item() == 1


def test_top_k_comes_before_top_p() -> None:
    """Of four equal tokens top-k... keeps ties, so use unequal ones: within the best two the first alone reaches 0.55."""
    row = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    uniform = [0.999]
    assert choose(row, [Sampling(1.0, top_k=2, top_p=0.55)], uniform).item() == 0  # 0.4 / 0.7 = 0.57
    assert choose(row, [Sampling(1.0, top_p=0.55)], uniform).item() == 1


def test_temperature_zero_is_the_best_token_the_lowest_id_among_equals() -> None:
    rows = torch.tensor([[0.0, 3.0, 3.0], [5.0, 1.0, 1.0]])
    assert choose(rows, [Sampling(0), Sampling(0)], [0.9, 0.9]).tolist() == [1, 0]


def test_frequencies_are_the_probabilities() -> None:
    random.seed(3)
    n, values = 4000, torch.tensor([0.5, 1.5, -1.0, 0.0])
    uniform = [random.random() for _ in range(n)]
    ids = choose(values.expand(n, 4), [Sampling(0.7)] * n, uniform)
    expected = (values.double() / 0.7).softmax(0)
    for i, p in enumerate(expected.tolist()):
        assert abs((ids == i).float().mean().item() - p) < 4 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": 2},
        {"repetition_penalty": 0}, {"repetition_penalty": float("inf")}, {"frequency_penalty": float("nan")},
        {"presence_penalty": float("inf")}, {"logit_bias": ((3, 101.0),)}, {"logprobs": -1},
    ],
)  # fmt: skip
def test_senseless_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Sampling(**wrong)


def test_top_p_of_a_large_vocabulary_is_the_sorted_definition() -> None:
    torch.manual_seed(0)
    for scale in (0.1, 1.0, 4.0):
        values = torch.randn(3, 5000).double() * scale
        for p in (0.01, 0.5, 0.95, 0.9999):
            ordered, order = values.sort(dim=-1, descending=True, stable=True)
            probs = ordered.softmax(-1)
            keep = probs.cumsum(-1) - probs < p
            expected = values.masked_fill(~torch.zeros_like(keep).scatter(1, order, keep), OUT)
            assert torch.equal(keep_top_p(values, torch.tensor([p] * 3)), expected)


def rows(*samplings: Sampling, seed: int = 0) -> list[Sequence]:
    tokenizer = bytes_tokenizer()
    return [Sequence(Request((256, 65), sampling=s, seed=seed + i), tokenizer, frozenset([256])) for i, s in enumerate(samplings)]


@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(1.0), Sampling(0.7, top_k=5, top_p=0.9, min_p=0.01)])
def test_nan_is_refused(sampling: Sampling) -> None:
    logits = torch.zeros(2, 257)
    logits[1, 100] = torch.nan
    assert choose(logits, [Sampling(0), sampling], [0.0, 0.5]).tolist() == [0, NOTHING]
    with pytest.raises(ValueError, match="NaN"):
        pick(logits, rows(Sampling(0), sampling))


def test_log_probabilities_are_the_models_own() -> None:
    """Whatever the rules make of the distribution that is drawn from."""
    torch.manual_seed(1)
    logits = torch.randn(3, 257)
    own = logits.log_softmax(-1)
    odd = Sampling(0, repetition_penalty=3.0, logit_bias=((7, 100.0),), top_k=1, logprobs=2)
    first, plain, alone = pick(logits, rows(odd, Sampling(0), Sampling(0, logprobs=0)))
    assert first.id == 7 and first.log_p == pytest.approx(own[0, 7].item(), abs=1e-5)
    best = own[0].topk(2)
    assert [token for token, _ in first.top] == best.indices.tolist()
    assert [p for _, p in first.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert plain == Choice(int(own[1].argmax())) and alone.top == ()
    assert alone.log_p == pytest.approx(own[2].max().item(), abs=1e-5)


def test_tokens_that_cannot_come_are_not_among_the_most_probable() -> None:
    logits = torch.full((1, 257), OUT)
    logits[0, :2] = torch.tensor([1.0, 0.0])
    (choice,) = pick(logits, rows(Sampling(0, logprobs=5)))
    assert [token for token, _ in choice.top] == [0, 1]


def test_a_row_picks_as_if_it_were_alone() -> None:
    torch.manual_seed(2)
    kinds = (
        Sampling(1.3, top_p=0.8), Sampling(0), Sampling(0.5, min_p=0.1, presence_penalty=1.0), Sampling(1.0, logprobs=3),
        Sampling(1.0, top_k=3, logit_bias=((9, 3.0),)),
    )  # fmt: skip
    logits = torch.randn(len(kinds), 257)
    together = pick(logits, rows(*kinds))
    alone = [pick(logits[i : i + 1], [row])[0] for i, row in enumerate(rows(*kinds))]
    assert [c.id for c in together] == [c.id for c in alone]
    assert together[3].log_p == pytest.approx(alone[3].log_p, abs=1e-6)


def test_probabilities_are_what_is_drawn_from() -> None:
    torch.manual_seed(3)
    logits = torch.randn(2, 6)
    kinds = [Sampling(0.7, top_k=4, top_p=0.9), Sampling(0)]
    p = drawn_from(logits, kinds)
    assert p.sum(-1).tolist() == pytest.approx([1, 1]) and p[1].tolist() == [float(i == logits[1].argmax()) for i in range(6)]
    n = 4000
    uniform = (torch.arange(n).double() + 0.5) / n
    ids = choose(logits[:1].expand(n, 6), [kinds[0]] * n, uniform)
    assert (torch.bincount(ids, minlength=6) / n).tolist() == pytest.approx(p[0].tolist(), abs=1 / n)
