"""From a number of parameters to a shape."""

from __future__ import annotations

import pytest

from genus import recipes
from genus.parts.attention import Attention
from genus.parts.model import Model
from genus.spec import walk

NEURAL = [n for n in recipes.names() if isinstance(recipes.make(n).model, Model)]


@pytest.mark.parametrize("name", NEURAL)
@pytest.mark.parametrize(("parameters", "vocab"), [(1_000_000, 2_000), (30_000_000, 16_000)])
def test_hits_the_wish(name: str, parameters: int, vocab: int) -> None:
    recipe = recipes.fit(name, parameters=parameters, vocab=vocab)
    assert recipe.parameters_total == pytest.approx(parameters, rel=0.10)
    assert recipe.model.embed.vocab == vocab and recipe.name == name
    assert recipe.parameters_total == recipe.model.parameters()
    low, high = recipes.get(name).depths
    assert low <= recipe.model.stack.depth <= high
    for part in walk(recipe.model):
        if isinstance(part, Attention):
            part.sizes(recipe.model.dim)  # the heads divide the width


@pytest.mark.parametrize(("name", "parameters"), [("gpt2", 10_000_000_000), ("llama", 7_000_000_000), ("gpt2", 70_000)])
def test_large_and_small(name: str, parameters: int) -> None:
    vocab = 50_000 if parameters > 1e8 else 100
    assert recipes.fit(name, parameters=parameters, vocab=vocab).parameters_total == pytest.approx(parameters, rel=0.10)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "t5"])
def test_shapes_are_neither_towers_nor_plates(name: str) -> None:
    for parameters in (2_000_000, 20_000_000, 200_000_000):
        recipe = recipes.fit(name, parameters=parameters, vocab=8_000)
        assert 10 < recipe.model.dim / recipe.model.stack.depth < 300


def test_more_parameters_make_a_larger_model() -> None:
    shapes = [recipes.fit("llama", parameters=p, vocab=4_000).model for p in (1e6, 4e6, 16e6, 64e6)]
    assert [m.stack.depth for m in shapes] == sorted(m.stack.depth for m in shapes)
    assert [m.dim for m in shapes] == sorted(m.dim for m in shapes)


def test_fixed_sizes_are_kept() -> None:
    recipe = recipes.fit("gpt2", parameters=5_000_000, vocab=1_000, context=77, dropout=0.1)
    assert recipe.model.context == 77 and recipe.model.stack.blocks[0].dropout == 0.1


@pytest.mark.parametrize(
    ("parameters", "vocab", "message"),
    [
        (
            1_000,
            256,
            r"1,000 parameters are too few for gpt2: .* vocabulary of 256 .*ask for more, or prepare the data with a smaller",
        ),
        (1_000_000, 100_000, r"too few for gpt2: with a vocabulary of 100,000"),
        (10**16, 1_000, r"no shape of gpt2 has about 10,000,000,000,000,000 parameters; the nearest has"),
    ],
)
def test_absurd_wishes_are_refused(parameters: int, vocab: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipes.fit("gpt2", parameters=parameters, vocab=vocab)


@pytest.mark.parametrize("parameters", [0, -5])
def test_no_parameters_at_all(parameters: int) -> None:
    with pytest.raises(ValueError, match="too few"):
        recipes.fit("gpt2", parameters=parameters, vocab=100)


def test_counted_models_have_no_size() -> None:
    with pytest.raises(ValueError, match="count"):
        recipes.fit("ngram", parameters=1_000_000, vocab=1_000)


def test_shape_in_a_line() -> None:
    recipe = recipes.make("gpt2")
    assert recipes.shape(recipe) == "12 layers × 768 wide, 124,439,808 parameters"
    assert recipes.shape(recipes.make("nnlm", vocab=100)).startswith("1 layer × 60 wide, ")


@pytest.mark.parametrize("name", ["gpt2", "llama", "lstm", "deltanet", "deltanet-hybrid"])
def test_shapes_of_one_proportion(name: str) -> None:
    counts = recipes.proportioned(name, 2048, 1e5, 1e7, context=128)
    assert len(counts) >= 7 and counts == sorted(counts) and counts[0] >= 1e5 and counts[-1] <= 1e7
    low, high = recipes.find(name).depths
    for count in counts:
        recipe = recipes.fit(name, count, 2048, context=128)
        assert recipe.parameters_total == count
        assert recipe.model.stack.depth == min(max(round(recipe.model.dim / recipes.find(name).aspect), low), high)
