"""Attention as a layer: against PyTorch's own, and what its fields mean."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genus.parts.attention import Attention, Score
from genus.parts.ctx import Ctx
from genus.parts.norm import RMSNorm
from genus.parts.positions import Alibi, RelativeBias, Rotary

X = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))


def _layer(spec: Attention, dim: int = 16) -> nn.Module:
    layer = spec.build(dim)
    for p in layer.parameters():
        nn.init.normal_(p, 0.0, 0.4)
    assert spec.parameters(dim) == sum(p.numel() for p in layer.parameters())
    return layer


@pytest.mark.parametrize("causal", [True, False])
def test_is_multi_head_attention(causal: bool) -> None:
    layer = _layer(Attention(4, causal=causal, bias=True))
    peer = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        projections = (layer.q_proj, layer.k_proj, layer.v_proj)
        peer.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        peer.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        peer.out_proj.load_state_dict(layer.o_proj.state_dict())
    mask = torch.ones(9, 9).triu(1).bool() if causal else None
    expected = peer(X, X, X, attn_mask=mask, need_weights=False)[0]
    torch.testing.assert_close(layer(X, Ctx(torch.arange(9))), expected)


def test_cross_attention_reads_the_memory() -> None:
    layer = _layer(Attention(4, cross=True))
    memory = torch.randn(2, 5, 16)
    peer = nn.MultiheadAttention(16, 4, bias=False, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight]))
        peer.out_proj.weight.copy_(layer.o_proj.weight)
    expected = peer(X, memory, memory, need_weights=False)[0]
    torch.testing.assert_close(layer(X, Ctx(torch.arange(9), memory=memory)), expected)


def test_padding_of_the_source_is_not_read() -> None:
    layer = _layer(Attention(4, cross=True))
    memory = torch.randn(2, 5, 16)
    source_doc = torch.tensor([[0, 0, 0, -1, -1], [0] * 5])
    padded = layer(X, Ctx(torch.arange(9), memory=memory, memory_doc=source_doc))
    torch.testing.assert_close(padded[:1], layer(X[:1], Ctx(torch.arange(9), memory=memory[:1, :3])))
    torch.testing.assert_close(padded[1:], layer(X[1:], Ctx(torch.arange(9), memory=memory[1:])))


def test_grouped_queries_share_keys() -> None:
    """Two groups equal four heads whose keys and values are repeated (Ainslie et al. 2023)."""
    grouped, full = _layer(Attention(4, 2)), _layer(Attention(4))
    with torch.no_grad():
        for name in ("k_proj", "v_proj"):
            weight = getattr(grouped, name).weight.view(2, 4, 16).repeat_interleave(2, dim=0)
            getattr(full, name).weight.copy_(weight.reshape(16, 16))
        full.q_proj.weight.copy_(grouped.q_proj.weight)
        full.o_proj.weight.copy_(grouped.o_proj.weight)
    torch.testing.assert_close(grouped(X, Ctx(torch.arange(9))), full(X, Ctx(torch.arange(9))))


def test_window_counts_the_query_itself() -> None:
    layer = _layer(Attention(4, window=3))
    y = layer(X, Ctx(torch.arange(9)))
    far, near = X.clone(), X.clone()
    far[:, 4], near[:, 5] = 9.0, 9.0
    assert torch.equal(layer(far, Ctx(torch.arange(9)))[:, 7], y[:, 7])
    assert not torch.allclose(layer(near, Ctx(torch.arange(9)))[:, 7], y[:, 7], atol=1e-3)


def test_norms_of_queries_and_keys() -> None:
    """Within each head (Qwen 3) they have a head's width, over all heads at once (OLMo 2) the whole width."""
    inside = _layer(Attention(4, 2, score=Score(norm=RMSNorm())))
    whole = _layer(Attention(4, 2, score=Score(norm=RMSNorm(), whole=True)))
    assert [n.weight.numel() for n in (inside.q_norm, inside.k_norm, whole.q_norm, whole.k_norm)] == [4, 4, 16, 8]
    big = inside(X * 100, Ctx(torch.arange(9))) / 100  # the scores no longer grow with the input, only the values do
    torch.testing.assert_close(big, inside(X, Ctx(torch.arange(9))), atol=1e-4, rtol=1e-3)


def test_scale_and_head_dim() -> None:
    layer = _layer(Attention(3, head_dim=6))
    assert layer.scale == 6**-0.5 and layer.q_proj.weight.shape == (18, 16) and layer.o_proj.weight.shape == (16, 18)
    assert _layer(Attention(4, score=Score(scale=1.0))).scale == 1.0
    with pytest.raises(ValueError, match="width 16 does not divide into 3 heads"):
        Attention(3).build(16)
    with pytest.raises(ValueError, match="kv_heads must divide heads"):
        Attention(4, 3)
    with pytest.raises(ValueError, match="0 heads"):
        Attention(0)


def test_biases() -> None:
    assert _layer(Attention(4, bias=True, out_bias=False)).o_proj.bias is None
    assert _layer(Attention(4, out_bias=True)).q_proj.bias is None


@pytest.mark.parametrize("position", [None, Rotary(), Alibi()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_goes_through(position: object, dtype: torch.dtype) -> None:
    y = _layer(Attention(4, position=position))(X.to(dtype), Ctx(torch.arange(9)))
    assert y.dtype == dtype and y.isfinite().all()


def test_a_full_state_says_so() -> None:
    layer = _layer(Attention(4))
    state = layer.init_state(2, 8, torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match="room for 8 positions, not 9"):
        layer(X, Ctx(torch.arange(9)), state)


def test_relative_bias_is_shared_by_the_stack() -> None:
    spec = RelativeBias(8, 20)
    ctx = Ctx(torch.arange(9))
    calls = []

    def table(distance: torch.Tensor, causal: bool) -> torch.Tensor:
        calls.append((*distance.shape, causal))
        return torch.zeros(4, *distance.shape)

    spec.share(table, ctx)
    layer = _layer(Attention(4, position=spec))
    torch.testing.assert_close(layer(X, ctx), layer(X, ctx))
    assert calls == [(17, True)]
