"""Initial weights: the spread that the papers give."""

from __future__ import annotations

import math

import pytest
import torch

from genus.parts.attention import Attention
from genus.parts.block import Block, Stack
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.init import Init
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.norm import RMSNorm
from genus.parts.recurrent import Recurrent
from genus.parts.wiring import Plain


def _transformer(init: Init) -> Model.Module:
    block = Block((Attention(4, bias=True), MLP(256, bias=True)))
    return Model(64, Embedding(500), Stack((block,), 6), head=Head(tied=False, bias=True), init=init).build()


@pytest.mark.parametrize("residual", [True, False])
def test_normal(residual: bool) -> None:
    """GPT-2: 0.02, and the outputs of sublayers 0.02 / sqrt(2 layers)."""
    for name, p in _transformer(Init("normal", 0.02, residual)).named_parameters():
        if p.dim() == 1:
            assert (p == (1.0 if ".norms." in name or "final" in name else 0.0)).all(), name
            continue
        output = residual and ("o_proj" in name or "down_proj" in name)
        want = 0.02 / math.sqrt(12) if output else 0.02
        assert float(p.detach().std()) == pytest.approx(want, rel=0.06), name
        assert abs(float(p.detach().mean())) < 5 * want / math.sqrt(p.numel()), name


def test_fan_in() -> None:
    for name, p in _transformer(Init("fan_in", residual=False)).named_parameters():
        if p.dim() > 1:
            assert float(p.detach().std()) == pytest.approx(p.shape[1] ** -0.5, rel=0.06), name


def test_uniform_and_everything() -> None:
    """Zaremba et al. 2014: every parameter, biases too, uniform between -bound and bound."""
    for name, p in _transformer(Init("uniform", 0.1, residual=False, everything=True)).named_parameters():
        if ".norms." in name or "final" in name:
            continue
        assert float(p.detach().abs().max()) <= 0.1, name
        assert float(p.detach().std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.3 if p.dim() == 1 else 0.06), name


def test_forget_gate() -> None:
    """Only the LSTM's second gate, and only one of its two biases, so that their sum is 1."""
    stack = Stack((Block((Recurrent("LSTM"),), None, Plain()),), 2, None)
    model = Model(8, Embedding(20), stack, init=Init(forget=1.0)).build()
    for layer in model.stack.layers:
        bias = layer.parts[0].bias_ih + layer.parts[0].bias_hh
        assert bias.view(4, 8).tolist() == [[0.0] * 8, [1.0] * 8, [0.0] * 8, [0.0] * 8]
    gru = Model(8, Embedding(20), Stack((Block((Recurrent("GRU"),), None, Plain()),), 1, None), init=Init(forget=1.0)).build()
    assert (gru.stack.layers[0].parts[0].bias_ih == 0).all()


def test_gemmas_norm_starts_as_the_identity() -> None:
    norm = RMSNorm(plus_one=True).build(4)
    x = torch.randn(3, 4)
    torch.testing.assert_close(norm(x), RMSNorm().build(4)(x))
    assert (norm.weight == 0).all()
