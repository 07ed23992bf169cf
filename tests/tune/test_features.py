"""Vectors of texts from frozen models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genus import recipes
from genus.modalities.text import Tokenizer
from genus.parts.ngram import NGram
from genus.parts.task_head import Vectors
from genus.prepare.tokenizer import build as make_tokenizer
from genus.run import Loaded
from genus.tune.features import batches, features, usual_pool

TEXTS = ["a cat sat", "the dog", "", "a very long sentence about a cat and a dog that sat on a mat", "the dog"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer("bytes", [], 0)


def model(name: str, tokenizer: Tokenizer, **sizes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    given = {"dim": 32, "depth": 2, "heads": 2, "vocab": tokenizer.vocab_size, "context": 64} | sizes
    return recipes.make(name, **given).model.build().eval()


@pytest.mark.parametrize("name", ["gpt2", "bert", "lstm", "elmo", "t5", "llama"])
@pytest.mark.parametrize("pool", ["mean", "first", "last", "max", "layers"])
def test_a_batch_is_its_texts_one_by_one(name: str, pool: str, tokenizer: Tokenizer) -> None:
    """Order restored, padding without influence."""
    tokenizer = tokenizer.extended(["cls", "sep"]) if name == "bert" else tokenizer
    network = model(name, tokenizer)
    together = features(network, tokenizer, TEXTS, pool)
    width = {"elmo": 64}.get(name, 32) * (3 if pool == "layers" else 1)
    assert together.shape == (5, width) and together.dtype == np.float32 and np.isfinite(together).all()
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(features(network, tokenizer, [text], pool)[0], together[i], atol=2e-5)
    np.testing.assert_allclose(together[1], together[4], atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-3 or pool == "first"
    np.testing.assert_allclose(features(network, tokenizer, TEXTS, pool, batch_tokens=1), together, atol=2e-5)


def test_layers_are_the_models(tokenizer: Tokenizer) -> None:
    network = model("bert", tokenizer)
    ids, _ = tokenizer.frame(TEXTS[0])
    layers = network.layers(torch.tensor([ids]))
    for i in (0, 1, 2, -1):
        np.testing.assert_allclose(features(network, tokenizer, TEXTS[:1], layer=i)[0], layers[i][0].mean(0).detach(), atol=1e-5)
    beside = features(network, tokenizer, TEXTS[:1], "layers")[0]
    np.testing.assert_allclose(beside, torch.cat([x[0].mean(0) for x in layers]).detach(), atol=1e-5)


def test_a_sentence_encoder_says_how(tokenizer: Tokenizer) -> None:
    framed = tokenizer.extended(["cls", "sep"])
    torch.manual_seed(0)
    made = recipes.make("bert", dim=32, depth=1, heads=2, vocab=framed.vocab_size, context=64).model
    encoder = made.replace(head=Vectors(take="max", unit=True)).build().eval()
    largest = features(encoder, framed, TEXTS, "max")
    length = np.linalg.norm(largest, axis=1, keepdims=True)
    assert np.abs(length - 1).min() > 0.1
    np.testing.assert_allclose(features(encoder, framed, TEXTS), largest / length, atol=1e-6)
    assert usual_pool(encoder.spec) == "max" and usual_pool(made) == "mean"
    said: list[str] = []
    short = made.replace(head=Vectors(take="max", unit=True, longest=8)).build()
    short.load_state_dict(encoder.state_dict())
    np.testing.assert_allclose(features(short, framed, TEXTS, say=said.append), features(encoder, framed, TEXTS, limit=8))
    assert said[0].startswith("cut at 8 tokens: ")


def test_pairs_have_types(tokenizer: Tokenizer) -> None:
    framed = tokenizer.extended(["cls", "sep"])
    network = model("bert", framed)
    pair = features(network, framed, [("a cat", "a dog")])[0]
    ids, types = framed.frame("a cat", "a dog")
    expected = network.layers(torch.tensor([ids]), types=torch.tensor([types]))[-1][0].mean(0).detach()
    assert set(types) == {0, 1}
    np.testing.assert_allclose(pair, expected, atol=1e-5)


def test_long_texts_are_cut_and_counted(tokenizer: Tokenizer) -> None:
    said: list[str] = []
    network = model("gpt2", tokenizer, context=16)
    found = features(network, tokenizer, TEXTS, say=said.append)
    assert said == ["cut at 16 tokens: 1 of 5 texts"]
    ids, _ = tokenizer.frame(TEXTS[3], limit=16)
    expected = network.layers(torch.tensor([ids]))[-1][0].mean(0).detach()
    np.testing.assert_allclose(found[3], expected, atol=1e-5)
    features(model("lstm", tokenizer), tokenizer, ["a cat " * 500], say=said.append)
    assert len(said) == 1, "without attention a text may have any length"


def test_batches_are_full_and_sorted() -> None:
    lengths = [3, 50, 7, 7, 2, 90, 4]
    groups = list(batches(lengths, 100))
    assert sorted(i for g in groups for i in g) == list(range(7))
    assert all(max(lengths[i] for i in g) * len(g) <= 100 for g in groups)
    assert groups == [[5], [1, 2], [3, 6, 0, 4]]


def test_refusals(tokenizer: Tokenizer, tmp_path) -> None:
    network = model("gpt2", tokenizer)
    with pytest.raises(ValueError, match=r"there is no layer 3: 0 is the embedding's output, 2 \(or -1\)"):
        features(network, tokenizer, TEXTS, layer=3)
    with pytest.raises(ValueError, match="pool 'sum' is not one of: mean, first, last, max, layers"):
        features(network, tokenizer, TEXTS, "sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no tokenizer"):
        features(network, None, TEXTS)
    with pytest.raises(ValueError, match="an n-gram keeps counts and has no vectors"):
        features(Loaded(None, NGram(3, 9, 0, 0), tokenizer, tmp_path, {}), None, TEXTS)
    assert features(network, tokenizer, []).shape == (0, 32)
    assert network.training is False
