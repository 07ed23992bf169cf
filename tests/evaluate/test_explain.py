"""What a model looks at, from text to layers."""

from __future__ import annotations

import base64
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus.evaluate.explain import SENTENCE, explain, focus, watch
from genus.modalities.text import Tokenizer
from genus.parts.ngram import NGram
from genus.prepare.tokenizer import build

SIZES = {"dim": 32, "depth": 2, "heads": 4, "context": 128}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build("bpe", [SENTENCE * 5], 400)


def model(name: str, tokenizer: Tokenizer, **sizes: Any) -> Any:
    return genus.recipe(name, vocab=tokenizer.vocab_size, **SIZES | sizes).model.build().eval()


def test_a_decoder(tokenizer: Tokenizer) -> None:
    found = explain(model("gpt2", tokenizer), tokenizer, SENTENCE)
    assert found.tokens[0] == "<|endoftext|>" and "".join(found.tokens[1:]) == SENTENCE
    assert [(layer.number, layer.place, layer.kind, layer.heads) for layer in found.layers] == [
        (0, "text", "softmax", 4),
        (1, "text", "softmax", 4),
    ]
    assert found.source == () and found.queries(found.layers[0]) == found.keys(found.layers[0]) == found.tokens
    assert found.layers[0].weights.shape == (4, len(found.tokens), len(found.tokens))


def test_an_encoder_reads_what_its_tokenizer_puts_around(tokenizer: Tokenizer) -> None:
    framing = tokenizer.extended(("cls", "sep"))
    found = explain(model("bert", framing), framing, "the street")
    assert (found.tokens[0], found.tokens[-1]) == ("[CLS]", "[SEP]")
    assert not torch.equal(found.layers[0].weights, found.layers[0].weights.tril())


def test_layers_that_share_weights_are_counted_on(tokenizer: Tokenizer) -> None:
    framing = tokenizer.extended(("cls", "sep"))
    found = explain(model("albert", framing, depth=3), framing, "the street")
    assert [layer.number for layer in found.layers] == [0, 1, 2]
    assert not torch.equal(found.layers[0].weights, found.layers[1].weights)


@pytest.mark.parametrize("name", ["transformer", "rnnsearch"])
def test_an_encoder_decoder_looks_at_its_source(tokenizer: Tokenizer, name: str) -> None:
    found = explain(model(name, tokenizer), tokenizer, "the street", target="was too tired")
    assert found.source[-1] == "<|endoftext|>" and "".join(found.source[:-1]) == "the street"
    assert "".join(found.tokens[1:]) == "was too tired"
    cross = [layer for layer in found.layers if layer.place == "cross"]
    assert cross
    for layer in cross:
        assert layer.weights.shape[1:] == (len(found.tokens), len(found.source))
        assert (found.queries(layer), found.keys(layer)) == (found.tokens, found.source)
        torch.testing.assert_close(layer.weights.sum(-1), torch.ones(layer.heads, len(found.tokens)))


def test_what_a_memory_is_written(tokenizer: Tokenizer) -> None:
    """The norms of the changes, against the recurrence written out."""
    found = explain(model("gated-deltanet", tokenizer), tokenizer, "the street was too tired")
    for layer in found.layers:
        assert layer.write is not None and layer.beta is not None and layer.decay is not None
        assert layer.write.shape == layer.beta.shape == layer.decay.shape == layer.weights.shape[:2]
        assert ((layer.beta > 0) & (layer.beta < 1)).all() and ((layer.decay > 0) & (layer.decay < 1)).all()


def test_the_norm_of_a_write() -> None:
    from genus.evaluate.explain import _writes
    from genus.ops.dispatch import Call, watched
    from genus.ops.fast_weights import fast_weights

    q, k, v = torch.randn(1, 2, 6, 3), torch.nn.functional.normalize(torch.randn(1, 2, 6, 3), dim=-1), torch.randn(1, 2, 6, 5)
    beta, log_decay = torch.rand(1, 2, 6), -torch.rand(1, 2, 6)
    calls: list[Call] = []
    with watched(calls.append):
        fast_weights(q, k, v, log_decay, beta)
    write, shown, kept = _writes(calls[0])
    memory = torch.zeros(2, 3, 5)
    for t in range(6):
        faded = memory * log_decay[0, :, t, None, None].exp()
        error = v[0, :, t] - (k[0, :, t, None] @ faded)[:, 0]
        change = beta[0, :, t, None, None] * k[0, :, t, :, None] * error[:, None]
        torch.testing.assert_close(write[:, t], change.flatten(1).norm(dim=-1))
        memory = faded + change
    assert shown is not None and torch.equal(shown, beta[0])
    assert kept is not None and torch.equal(kept, log_decay[0].exp())


def test_json_holds_the_weights(tokenizer: Tokenizer) -> None:
    found = explain(model("deltanet", tokenizer), tokenizer, "the street")
    told = found.to_json()
    assert told["tokens"] == found.tokens and len(told["layers"]) == len(found.layers)
    for layer, each in zip(found.layers, told["layers"], strict=True):
        steps = np.frombuffer(base64.b64decode(each["weights"]), "<u2").reshape(layer.weights.shape)
        low, high = (np.array(each[name])[:, None, None] for name in ("low", "high"))
        np.testing.assert_allclose(low + steps / 65535 * (high - low), layer.weights.numpy(), atol=1e-4)
        assert len(each["write"]) == layer.heads and "beta" in each and "decay" not in each


def test_models_without_weights_say_so(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="neither attention nor fast weights"):
        explain(model("lstm", tokenizer), tokenizer, SENTENCE)

    class Counted:
        spec = NGram()

    with pytest.raises(ValueError, match="an n-gram counts"):
        explain(Counted(), tokenizer, SENTENCE)


def test_what_cannot_be_read(tokenizer: Tokenizer) -> None:
    short = model("gpt2", tokenizer, context=8)
    with pytest.raises(ValueError, match="at most 8 can be shown"):
        explain(short, tokenizer, SENTENCE)
    with pytest.raises(ValueError, match="only an encoder-decoder writes a target"):
        explain(short, tokenizer, "the", target="street")


def test_a_model_is_left_as_it_was(tokenizer: Tokenizer) -> None:
    watched = model("gpt2", tokenizer).train()
    explain(watched, tokenizer, SENTENCE)
    assert watched.training
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in watched.modules())


def test_another_thread_is_not_seen(tokenizer: Tokenizer) -> None:
    """A server decodes with the same model meanwhile."""
    shared = model("gpt2", tokenizer)

    def run() -> None:
        other = Thread(target=lambda: shared.hidden(torch.ones(1, 5, dtype=torch.long)))
        other.start()
        other.join()
        shared.hidden(torch.ones(1, 7, dtype=torch.long))

    assert [layer.weights.shape[1] for layer in watch(shared, run)] == [7, 7]


def test_focus() -> None:
    assert focus(["<s>", " It", " was", " it", "."]) == 3
    assert focus(["[CLS]", "a", " dog", ".", "[SEP]"]) == 2
    assert focus(["[CLS]", "."]) == 1
    assert focus(["the", " ", "i", "t", " was", " w", "he", "re"]) == 3  # spelled; and no part of a word
    assert focus(["[CLS]", "it", "##em", "it", "was", "[SEP]"]) == 3
    assert focus(["那", "只", "它₁", "它₂", "它₃", "累"]) == 4
