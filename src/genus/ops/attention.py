"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import activation, pairs
from genus.ops.blocked_attention import BLOCK, Blocked
from genus.ops.dispatch import Op
from genus.ops.dropout import LARGEST
from genus.ops.dropout import dropout as drop
from genus.ops.native import computes
from genus.ops.native_attention import Native, forward_kernel

LONG = 1024  # beyond it, weights kept for the backward pass take more memory than all else in a layer


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
    window: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """`softmax(q k' scale + bias + mask) v`.

    Args:
        q: (batch, heads, time, head_dim).
        k, v: (batch, kv_heads, keys, head_dim); kv_heads divides heads (grouped queries).
        mask: None, boolean (True = may look) or additive, broadcastable to (batch, heads, time, keys).
        causal: query t sees keys up to t; needs time = keys. With a mask, both hold.
        scale: factor on the scores. softcap: c tanh(scores / c), as in Gemma 2. dropout: probability on the weights.
        window: query t sees itself and the window - 1 keys before it; needs `causal` (Beltagy et al. 2020, section 3.1).
        bias: (heads, time + keys - 1), added to the scores by distance: entry i - j + keys - 1 where query i meets key j
            (Raffel et al. 2020; Press et al. 2022).

    Returns:
        (batch, heads, time, head_dim).

    Raises:
        ValueError: `causal`, and there are more or fewer keys than queries; a window, and not `causal`.
    """
    if window is not None and not (causal and window >= 1):
        raise ValueError(f"a window of {window} keys: it must be 1 or more, and the attention causal; pass a mask instead")
    if not _in_order(q, k, causal, None):
        raise ValueError(
            f"causal attention of {q.shape[2]} queries to {k.shape[2]} keys: it is not told where the queries stand among the "
            f"keys; pass a mask that says which each may look at, and causal=False"
        )
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = (q * scale) @ k.mT
    if softcap is not None:
        scores = activation.softcap.reference(scores, softcap)
    places = slice(0, q.shape[2]), slice(0, k.shape[2])
    if bias is not None:
        scores = scores + pairs.added(bias, *places, k.shape[2])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    if causal:
        scores = scores.masked_fill(pairs.hidden(*places, window, q.device), float("-inf"))
    return drop(scores.softmax(-1, dtype=torch.float32).to(v.dtype), dropout) @ v


def _in_order(q: Tensor, k: Tensor, causal: bool, window: int | None) -> bool:
    """Whether the keys stand where the queries do, if that matters; the definition says what is wrong otherwise."""
    return q.shape[2] == k.shape[2] and (window is None or window >= 1) if causal else window is None


@attention.needs
def _seen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    bias: Tensor | None = None,
) -> float:
    """The share of the pairs of a query and a key that no mask hides."""
    seen = torch.ones(1, 1, q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    if mask is not None:
        seen = seen & (mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min)
    if causal:
        seen = seen & ~pairs.hidden(slice(0, q.shape[2]), slice(0, k.shape[2]), window, q.device)
    return float(seen.float().mean())


def _fits_blocked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    bias: Tensor | None = None,
) -> bool:
    if q.device.type != "cpu" or softcap is not None or q.shape[-1] != v.shape[-1] or not _in_order(q, k, causal, window):
        return False
    reach = k.shape[2] if window is None else min(k.shape[2], window + BLOCK)  # keys whose weights are kept for a query
    if q.shape[2] < 2 or reach > LONG or (window is None and q.shape[2] > LONG):
        return False
    return mask is None or mask.dtype == torch.bool


def _fits_native(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    bias: Tensor | None = None,
) -> bool:
    if not computes(q) or not _in_order(q, k, causal, window) or dropout > LARGEST or (softcap and bias is not None):
        return False
    if v.shape[-1] != q.shape[-1] or q.shape[-1] % 16:
        return False
    if any(t.dtype != torch.bfloat16 for t in (q, k, v)) or q.shape[2] < 2 or not k.numel() or forward_kernel() is None:
        return False
    return mask is None or (mask.dtype == torch.bool and mask.dim() == 4 and mask.shape[1:3] == (1, 1))


@attention.path("native", when=_fits_native)
def _attention_native(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    seen = None if mask is None else mask[:, 0, 0].expand(-1, k.shape[2]).contiguous()
    return Native.apply(q, k, v, seen, causal, scale, window, bias, dropout, softcap)  # type: ignore[no-any-return]


@attention.path("blocked", when=_fits_blocked)
def _attention_blocked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    return Blocked.apply(q, k, v, mask, causal, scale, dropout, window, bias)  # type: ignore[no-any-return]


def _fits_sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    bias: Tensor | None = None,
) -> bool:
    if softcap is not None or not _in_order(q, k, causal, window):
        return False
    return q.device.type != "cpu" or dropout == 0.0


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
    window: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    grouped = k.shape[1] != q.shape[1]
    places = slice(0, q.shape[2]), slice(0, k.shape[2])
    if causal and not (mask is None and window is None and bias is None):
        hidden = pairs.hidden(*places, window, q.device)
        if mask is None or mask.dtype == torch.bool:
            mask = ~hidden if mask is None else mask & ~hidden
        else:
            mask = mask.masked_fill(hidden, float("-inf"))
        causal = False
    if bias is not None:
        more = pairs.added(bias, *places, k.shape[2]).to(q.dtype)
        boolean = mask is not None and mask.dtype == torch.bool
        mask = more if mask is None else torch.where(mask, more, float("-inf")) if boolean else more + mask
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal, scale=scale, enable_gqa=grouped)
