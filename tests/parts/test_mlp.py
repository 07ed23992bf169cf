"""Channel mixers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from genus.parts.ctx import Ctx
from genus.parts.mlp import MLP, Hidden

X, CTX = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)), Ctx(torch.arange(3))


def _build(spec: MLP | Hidden) -> torch.nn.Module:
    module = spec.build(6)
    for p in module.parameters():
        torch.nn.init.normal_(p)
    assert spec.parameters(6) == sum(p.numel() for p in module.parameters())
    return module


def test_plain_and_gated() -> None:
    plain = _build(MLP(10, "gelu", bias=True))
    torch.testing.assert_close(plain(X, CTX), plain.down_proj(F.gelu(plain.up_proj(X))))
    gated = _build(MLP(10, "silu", gated=True))
    torch.testing.assert_close(gated(X, CTX), gated.down_proj(F.silu(gated.gate_proj(X)) * gated.up_proj(X)))


def test_hidden_width_may_be_a_multiple() -> None:
    assert MLP(2.5).inner(6) == 15 and MLP(15).inner(6) == 15
    assert MLP(2.5).parameters(6) == MLP(15).parameters(6) == 180


def test_nnlm_layer() -> None:
    """Bengio et al. 2003, eq. 1: the read-out sees tanh(d + H x) and, by direct connections, x."""
    layer = _build(Hidden(5, direct=True))
    assert Hidden(5, direct=True).width(6) == 11 and Hidden(5).width(6) == 5
    torch.testing.assert_close(layer(X, CTX), torch.cat([layer.proj(X).tanh(), X], dim=-1))
