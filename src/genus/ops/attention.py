"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops.dispatch import Op
from genus.ops.dropout import dropout as drop

SHORT = 64  # up to this context the plain matrix products beat the fused CPU kernel


@Op
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """`softmax(q k' scale + mask) v`.

    Args:
        q: (batch, heads, time, head_dim).
        k, v: (batch, kv_heads, keys, head_dim); kv_heads divides heads (grouped queries).
        mask: None, boolean (True = may look) or additive, broadcastable to (batch, heads, time, keys).
        causal: query t sees keys up to t; needs time = keys and no mask.
        scale: factor on the scores. softcap: c tanh(scores / c), as in Gemma 2. dropout: probability on the weights.

    Returns:
        (batch, heads, time, head_dim).
    """
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = (q * scale) @ k.mT
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return drop(scores.softmax(-1, dtype=torch.float32).to(v.dtype), dropout) @ v


def _fits_sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> bool:
    if softcap is not None:
        return False
    return q.device.type != "cpu" or (dropout == 0.0 and (k.shape[2] > SHORT or not torch.is_grad_enabled()))


@attention.path("sdpa", when=_fits_sdpa)
def _attention_sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    grouped = k.shape[1] != q.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal, scale=scale, enable_gqa=grouped)
