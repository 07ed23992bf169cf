"""Span corruption, prefixes and their mixture: nothing is lost, and the shares are those of the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genus import recipes
from genus.objectives.mixture import UL2, Mixture
from genus.objectives.prefix import PrefixLM
from genus.objectives.spans import Spans
from genus.ops.cross_entropy import IGNORE
from genus.spec import from_json, to_json

EOS, PAD, SENTINEL = 99, 100, 200


def _put_back(source: list[int], target: list[int]) -> list[int]:
    """The text, with every span back in the place of its sentinel."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token >= SENTINEL:
            spans[token] = current = []
        else:
            current.append(token)
    return [t for token in source for t in (spans[token] if token >= SENTINEL else [token])]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(0, 1000), st.sampled_from([d for d in UL2 if isinstance(d, Spans)]))
def test_spans_can_be_put_back(length: int, seed: int, denoiser: Spans) -> None:
    objective = denoiser.replace(sentinel=SENTINEL, step=1)
    text = np.arange(length)
    source, target = objective.corrupt(text, torch.Generator().manual_seed(seed))
    assert _put_back(source.tolist(), target.tolist()) == text.tolist()
    marks = [t for t in source.tolist() if t >= SENTINEL]
    assert marks == [t for t in target.tolist() if t >= SENTINEL] == list(range(SENTINEL, SENTINEL + len(marks)))
    if length > 1:
        assert source[0] == 0 and len(marks) >= 1


def test_shares_of_t5() -> None:
    """15 % in spans of 3 on the average."""
    objective = Spans(sentinel=SENTINEL, step=1)
    rng, lost, spans = torch.Generator().manual_seed(0), 0, 0
    for _ in range(50):
        _, target = objective.corrupt(np.arange(190), rng)
        marks = int((target >= SENTINEL).sum())
        lost, spans = lost + len(target) - marks, spans + marks
    assert lost / (50 * 190) == pytest.approx(0.15, abs=0.005) and lost / spans == pytest.approx(3, abs=0.2)
    source, target = objective.corrupt(np.arange(190), rng)
    expected = objective.lengths(190)
    assert (len(source) + 1, len(target) + 1) == (pytest.approx(expected[0], abs=1), pytest.approx(expected[1], abs=1))


def test_prefixes() -> None:
    rng, borders = torch.Generator().manual_seed(0), []
    for _ in range(300):
        source, target = PrefixLM(rate=0.25).corrupt(np.arange(80), rng)
        assert [*source, *target] == list(range(80)) and len(source) and len(target)
        borders.append(len(source))
    assert min(borders) >= 40 and np.mean(borders) == pytest.approx(60, abs=1.5)
    assert [len(part) for part in PrefixLM().corrupt(np.arange(1), rng)] == [0, 1]


def test_a_batch(rows, ids, seed) -> None:
    batch = Spans().settle(ids).batch(rows([[1, 2, 3, 4], [5]], [[6, 7, 8]], [[]], length=8), seed)
    assert batch.source_doc.tolist() == [[0] * 5 + [1] * 2, [0] * 4 + [-1] * 3, [-1] * 7]
    assert batch.doc.tolist() == [[0] * 3 + [1] * 3, [0] * 3 + [-1] * 3, [-1] * 6]
    assert batch.targets[1].tolist() == [SENTINEL, 8, EOS, *[IGNORE] * 3]
    assert batch.inputs[1].tolist() == [EOS, SENTINEL, 8, PAD, PAD, PAD]  # BOS, which here is EOS, and the targets before
    assert batch.source[1].tolist() == [6, 7, SENTINEL, EOS, PAD, PAD, PAD]
    assert batch.inputs[0].tolist() == [EOS, SENTINEL, 4, EOS, SENTINEL, 5] and batch.source[0, 5:].tolist() == [SENTINEL, EOS]
    assert batch.count == 9 and batch.tokens == 9 + 11


@pytest.mark.parametrize("objective", [Spans(), PrefixLM(), Mixture()])
def test_packed_is_separate_and_pieces_sum_up(objective, rows, ids, seed) -> None:
    torch.manual_seed(0)
    recipe = recipes.make("t5", dim=32, depth=1, heads=2, vocab=310)
    model = recipe.model.build()
    objective = objective.settle(ids)
    assert objective.refusal(recipe.model) is None and from_json(to_json(objective)) == objective
    batch = objective.batch(rows([list(range(12)), list(range(20, 29))], [list(range(40, 60))], length=24), seed)
    total, count = objective.loss(model, batch)
    parts = [objective.loss(model, piece) for piece in batch.split(1)]
    torch.testing.assert_close(sum(loss for loss, _ in parts), total)
    assert int(count) == batch.count == sum(int(n) for _, n in parts)
    alone = 0.0
    for number in (0, 1):
        here, there = batch.doc[0] == number, batch.source_doc[0] == number
        logits = model(batch.inputs[:1, here], source=batch.source[:1, there])
        alone += torch.nn.functional.cross_entropy(logits[0], batch.targets[0, here], reduction="sum")
    torch.testing.assert_close(parts[0][0], alone)
    told = objective.measure(model, batch)
    assert list(told) == ["loss", "accuracy"] and int(told["accuracy"][1]) == batch.count


def test_a_mixture_marks_its_sources(rows, ids) -> None:
    """Every denoiser has its turn; [NLU] is twice, [NLG] four times and [S2S] once among seven."""
    objective, rng = Mixture().settle(ids), torch.Generator().manual_seed(0)
    marks = [int(objective.example(np.arange(30), rng)[0][0]) for _ in range(700)]
    shares = [marks.count(ids[mode]) / 100 for mode in ("[NLU]", "[NLG]", "[S2S]")]
    assert shares == [pytest.approx(2, abs=0.5), pytest.approx(4, abs=0.5), pytest.approx(1, abs=0.4)]


def test_sentinels_may_run_backwards_but_not_anywhere(ids) -> None:
    """T5's own vocabulary counts them down from its last id."""
    names = [f"sentinel_{i}" for i in range(100)]
    down = ids | {name: 32099 - i for i, name in enumerate(names)}
    objective = Spans(rate=0.5).settle(down)
    _, target = objective.corrupt(np.arange(30), torch.Generator().manual_seed(0))
    assert [t for t in target.tolist() if t > 1000] == [32099, 32098, 32097, 32096, 32095]
    with pytest.raises(ValueError, match="do not follow one another"):
        Spans().settle(ids | {"sentinel_7": 5000})
    with pytest.raises(ValueError, match=r"objective\.mode=none"):
        Spans(mode="[X]").settle(ids)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spans(rate=0.0), r"T5 takes 0\.15"),
        (lambda: Spans(mean=0.5), r"T5 takes 0\.15"),
        (lambda: PrefixLM(rate=0.7), r"at most 0\.5"),
        (lambda: Mixture(denoisers=()), "at least one"),
    ],
)
def test_what_it_refuses(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
    assert "a source and its own past" in Spans().refusal(recipes.make("gpt2", dim=32, depth=1, heads=2, vocab=50).model)


def test_operations_per_token_read() -> None:
    """Between those of the encoder's layers and those of the decoder's with their read-out."""
    recipe = recipes.make("t5", dim=64, depth=2, heads=2, vocab=500)
    model = recipe.model
    one, two = model.encoder.flops(64, 128), model.replace(encoder=None).flops(0, 128)
    assert one < recipe.objective.flops(model, 128) < two
