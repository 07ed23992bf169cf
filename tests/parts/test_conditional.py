"""The recurrent decoders of 2014 and 2015 against their papers' equations, one position at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genus import recipes
from genus.parts.bidirectional import mirrored

DIM, VOCAB, SOURCE, TIME = 6, 13, 5, 4


def _model(name: str) -> Any:
    model = recipes.make(name, dim=DIM, hidden=8, vocab=VOCAB).model.build(0).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0.0, 0.5)
    return model


def _gru(weights: Any, x: Tensor, h: Tensor, extra: Tensor | float = 0.0) -> Tensor:
    """Cho et al. 2014, eq. 5 to 8, for one vector."""
    (w_x, w_h, b), n = weights, len(h)
    given = w_x @ x + b + extra
    r, z = (torch.sigmoid(given[a : a + n] + w_h[a : a + n] @ h) for a in (0, n))
    return z * h + (1 - z) * torch.tanh(given[2 * n :] + w_h[2 * n :] @ (r * h))


def _read(module: Any, words: Tensor) -> list[Tensor]:
    weights = (module.weight_ih, module.weight_hh, module.bias_ih + module.bias_hh)
    h, states = torch.zeros(8), []
    for x in words:
        h = _gru(weights, x, h)
        states.append(h)
    return states


def _logits(model: Any, decoder: Any, maxout: Any, words: Tensor, s: Tensor, context: Any) -> Tensor:
    """The deep output of Bahdanau et al. 2015, appendix A.2.2, for every target position."""
    weights = (decoder.input.weight, decoder.weight_hh, decoder.input.bias + decoder.bias_hh)
    result = []
    for y in words:
        c = context(s)
        t = (maxout.proj.weight @ torch.cat([s, c, y]) + maxout.proj.bias).view(-1, 2).amax(-1)
        result.append(model.head.weight @ t + model.head.bias)
        s = _gru(weights, y, s, decoder.told.weight @ c)
    return torch.stack(result)


@torch.no_grad()
def test_rnnsearch_is_its_paper() -> None:
    model = _model("rnnsearch")
    source, target = torch.randint(0, VOCAB, (1, SOURCE)), torch.randint(0, VOCAB, (1, TIME))
    encoder, (decoder, maxout) = model.encoder.layers[0].parts[0], model.stack.layers[0].parts
    table = model.embed.tokens.weight
    ahead, back = _read(encoder.forwards, table[source[0]]), _read(encoder.backwards, table[source[0].flip(0)])[::-1]
    h = torch.stack([torch.cat(pair) for pair in zip(ahead, back, strict=True)])
    s = torch.tanh(decoder.start.weight @ back[0] + decoder.start.bias)

    def context(s: Tensor) -> Tensor:
        a = decoder.context
        energy = [a.energy @ torch.tanh(a.query.weight @ s + a.key.weight @ h_j) for h_j in h]
        return torch.stack(energy).softmax(0) @ h

    expected = _logits(model, decoder, maxout, table[target[0]], s, context)
    torch.testing.assert_close(model(target, source=source)[0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rnn_encoder_decoder_is_its_paper() -> None:
    model = _model("rnn-encoder-decoder")
    source, target = torch.randint(0, VOCAB, (1, SOURCE)), torch.randint(0, VOCAB, (1, TIME))
    encoder, (decoder, maxout) = model.encoder.layers[0].parts[0], model.stack.layers[0].parts
    table = model.embed.tokens.weight
    c = torch.tanh(decoder.context.proj.weight @ _read(encoder, table[source[0]])[-1] + decoder.context.proj.bias)
    s = torch.tanh(decoder.start.weight @ c + decoder.start.bias)
    expected = _logits(model, decoder, maxout, table[target[0]], s, lambda _: c)
    torch.testing.assert_close(model(target, source=source)[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["rnnsearch", "rnn-encoder-decoder"])
def test_the_published_size(name: str) -> None:
    """Embeddings of 620, states of 1,000, 500 maxout units, 30,000 words (Bahdanau et al. 2015, appendix A.2.3)."""
    spec = recipes.make(name).model
    decoder, maxout = spec.stack.blocks[0].parts
    assert (spec.dim, decoder.hidden, maxout.outputs, spec.embed.vocab) == (620, 1000, 500, 30000)


def test_the_first_look_is_everywhere_alike() -> None:
    model = recipes.make("rnnsearch", dim=DIM, hidden=8, vocab=VOCAB).model.build(0)
    reader = model.stack.layers[0].parts[0].context
    memory = torch.randn(2, SOURCE, 16)
    torch.testing.assert_close(reader.read(torch.randn(2, 8), reader.prepare(memory, None)), memory.mean(1))


def test_mirrored() -> None:
    doc = torch.tensor([[7, 7, 7, 3, 3, -1], [-1, 5, -1, 5, 5, 2]])
    place = mirrored(doc)
    assert place.tolist() == [[2, 1, 0, 4, 3, 5], [0, 4, 2, 3, 1, 5]]
    assert place.gather(1, place).tolist() == [list(range(6))] * 2
