"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import activation, native
from genus.ops.dispatch import Op
from genus.ops.dropout import dropout as drop
from genus.ops.first_order import first_order
from genus.ops.native import computes, number

LONG = 1024  # beyond it, weights kept for the backward pass take more memory than all else in a layer
BLOCK = 128  # queries at a time on the CPU


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
) -> Tensor:
    """`softmax(q k' scale + mask) v`.

    Args:
        q: (batch, heads, time, head_dim).
        k, v: (batch, kv_heads, keys, head_dim); kv_heads divides heads (grouped queries).
        mask: None, boolean (True = may look) or additive, broadcastable to (batch, heads, time, keys).
        causal: query t sees keys up to t; needs time = keys. With a mask, both hold.
        scale: factor on the scores. softcap: c tanh(scores / c), as in Gemma 2. dropout: probability on the weights.
        window: query t sees itself and the window - 1 keys before it; needs `causal` (Beltagy et al. 2020, section 3.1).

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
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    if causal:
        scores = scores.masked_fill(_hidden(slice(0, q.shape[2]), slice(0, q.shape[2]), window, q.device), float("-inf"))
    return drop(scores.softmax(-1, dtype=torch.float32).to(v.dtype), dropout) @ v


def _in_order(q: Tensor, k: Tensor, causal: bool, window: int | None) -> bool:
    """Whether the keys stand where the queries do, if that matters; the definition says what is wrong otherwise."""
    return q.shape[2] == k.shape[2] and (window is None or window >= 1) if causal else window is None


def _hidden(queries: slice, keys: slice, window: int | None, device: torch.device) -> Tensor:
    """(queries, keys) by their places: True where the key comes after the query, or before its window."""
    at = (torch.arange(places.start, places.stop, device=device) for places in (queries, keys))
    back = next(at)[:, None] - next(at)
    return back < 0 if window is None else (back < 0) | (back >= window)


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
) -> float:
    """The share of the pairs of a query and a key that no mask hides."""
    pairs = torch.ones(1, 1, q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    if mask is not None:
        pairs = pairs & (mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min)
    if causal:
        pairs = pairs & ~_hidden(slice(0, q.shape[2]), slice(0, q.shape[2]), window, q.device)
    return float(pairs.float().mean())


class _Blocked(torch.autograd.Function):
    """Blocks of queries as batched matrix products, which skip the keys that a block cannot see.

    torch's fused CPU kernel is 2.5 to 3.5 times slower, most of it in its backward pass. The attention weights are kept for the
    backward pass in the precision of `q`: time x keys / 2 numbers per head.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float,
        dropout: float,
        window: int | None,
    ) -> Tensor:
        (batch, heads, time, head), keys = q.shape, k.shape[2]
        q = q.reshape(-1, time, head) * scale
        k, v = (t.reshape(-1, keys, head) for t in (k, v))
        y = q.new_empty(batch, time, heads, head).transpose(1, 2)  # as the output projection reads it
        mask = None if mask is None else mask.expand(*mask.shape[:-2], time, keys)
        saved: list[Tensor] = []
        for block, see in _blocks(time, keys, causal, window):
            scores = torch.bmm(q[:, block], k[:, see].mT)
            if mask is not None:
                scores.unflatten(0, (batch, heads)).masked_fill_(~mask[..., block, see], float("-inf"))
            if causal:
                partly = block if window is None else see  # the other keys are seen by the whole block
                hidden = _hidden(block, partly, window, q.device)
                scores[..., partly.start - see.start :].masked_fill_(hidden, float("-inf"))
            p = scores.softmax(-1)
            kept = drop(torch.ones_like(p), dropout) if dropout else None
            weights = p if kept is None else p * kept
            y[:, :, block] = torch.bmm(weights, v[:, see]).view(batch, heads, -1, head)
            saved += [p] if kept is None else [p, kept]
        ctx.save_for_backward(q, k, v, *saved)
        ctx.shape, ctx.scale, ctx.dropout = (batch, heads, time, head), scale, dropout
        ctx.blocks = list(_blocks(time, keys, causal, window))
        return y

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        batch, heads, time, head = ctx.shape
        g = grads[0].reshape(-1, time, head)
        dq, dk, dv = (t.new_empty(batch, t.shape[1], heads, head).transpose(1, 2) for t in (q, k, v))
        sums = [torch.zeros_like(t, dtype=torch.float32) for t in (k, v)]
        per_block = 2 if ctx.dropout else 1
        for i, (block, see) in enumerate(ctx.blocks):
            p, kept = saved[per_block * i], saved[per_block * i + 1] if ctx.dropout else None
            dp = torch.bmm(g[:, block], v[:, see].mT)
            dv_part = torch.bmm((p if kept is None else p * kept).mT, g[:, block])
            ds = torch._softmax_backward_data(dp if kept is None else dp * kept, p, -1, p.dtype)
            rows = torch.bmm(ds, k[:, see]).view(batch, heads, -1, head)
            dq[:, :, block] = rows.mul_(ctx.scale)
            for total, part in zip(sums, (torch.bmm(ds.mT, q[:, block]), dv_part), strict=True):
                total[:, see] += part
        for d, total in zip((dk, dv), sums, strict=True):
            d.copy_(total.view(d.shape))
        return dq, dk, dv, None, None, None, None, None


def _blocks(time: int, keys: int, causal: bool, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries, and the keys that any query of the block may see."""
    for start in range(0, time, BLOCK):
        stop = min(start + BLOCK, time)
        yield slice(start, stop), slice(0 if window is None else max(0, start - window + 1), stop if causal else keys)


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
) -> bool:
    if q.device.type != "cpu" or softcap is not None or q.shape[-1] != v.shape[-1] or not _in_order(q, k, causal, window):
        return False
    reach = k.shape[2] if window is None else min(k.shape[2], window + BLOCK)  # keys whose weights are kept for a query
    if q.shape[2] < 2 or reach > LONG or (window is None and q.shape[2] > LONG):
        return False
    return mask is None or mask.dtype == torch.bool


_Strides, _Sizes = ctypes.c_int64 * 24, ctypes.c_int64 * 8


def _forward_kernel() -> native.Kernel | None:
    return native.kernel("attention", "genus_attention", "ppppppppppppn")


def _backward_kernel() -> native.Kernel | None:
    return native.kernel("attention", "genus_attention_backward", "pppppppppppppn")


def _rows(t: Tensor) -> Tensor:
    """The same numbers (batch, heads, time, head), those of a row side by side."""
    return t if t.stride(3) == 1 else t.contiguous()


def _like_projections(t: Tensor) -> Tensor:
    """An empty tensor of this shape (batch, heads, time, head), in the order in which a projection reads it."""
    batch, heads, time, head = t.shape
    return t.new_empty(batch, time, heads, head).transpose(1, 2)


class _Native(torch.autograd.Function):
    """The kernels in C (`ops/cpu/attention.c`), which keep two numbers per query for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, causal: bool, scale: float, window: int | None
    ) -> Tensor:
        q, k, v = _rows(q), _rows(k), _rows(v)
        y = _like_projections(q)
        (batch, heads, time, head), keys = q.shape, k.shape[2]
        kept = torch.empty(2, batch, heads, time)
        sizes = _Sizes(batch, heads, time, keys, head, causal, window or time, 0 if seen is None or len(seen) == 1 else keys)
        strides = [(ctypes.c_int64 * 3)(*t.stride()[:3]) for t in (q, k, v, y)]
        function = _forward_kernel()
        assert function is not None
        function(
            q.data_ptr(),
            strides[0],
            k.data_ptr(),
            strides[1],
            v.data_ptr(),
            strides[2],
            sizes,
            number(scale),
            None if seen is None else seen.data_ptr(),
            y.data_ptr(),
            strides[3],
            kept.data_ptr(),
            torch.get_num_threads(),
            held=(q, k, v, seen, y, kept),
        )
        ctx.save_for_backward(q, k, v, y, kept, seen)
        ctx.sizes, ctx.scale = sizes, scale
        return y

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, kept, seen = ctx.saved_tensors
        g = _rows(grads[0])
        dq, dk, dv = (_like_projections(t) for t in (q, k, v))
        function = _backward_kernel()
        assert function is not None
        function(
            *(t.data_ptr() for t in (q, k, v, y, g)),
            _Strides(*(n for t in (q, k, v, y, g, dq, dk, dv) for n in t.stride()[:3])),
            ctx.sizes,
            number(ctx.scale),
            None if seen is None else seen.data_ptr(),
            kept.data_ptr(),
            dq.data_ptr(),
            dk.data_ptr(),
            dv.data_ptr(),
            torch.get_num_threads(),
            held=(q, k, v, y, g, seen, kept, dq, dk, dv),
        )
        return dq, dk, dv, None, None, None, None


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
) -> bool:
    if not computes(q) or not _in_order(q, k, causal, window) or softcap is not None or dropout:
        return False
    if v.shape[-1] != q.shape[-1] or q.shape[-1] % 16:
        return False
    if any(t.dtype != torch.bfloat16 for t in (q, k, v)) or q.shape[2] < 2 or not k.numel() or _forward_kernel() is None:
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
) -> Tensor:
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    seen = None if mask is None else mask[:, 0, 0].expand(-1, k.shape[2]).contiguous()
    return _Native.apply(q, k, v, seen, causal, scale, window)  # type: ignore[no-any-return]


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
) -> Tensor:
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    return _Blocked.apply(q, k, v, mask, causal, scale, dropout, window)  # type: ignore[no-any-return]


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
) -> Tensor:
    grouped = k.shape[1] != q.shape[1]
    if causal and (mask is not None or window is not None):
        places = slice(0, q.shape[2])
        hidden = _hidden(places, places, window, q.device)
        if mask is None or mask.dtype == torch.bool:
            mask = ~hidden if mask is None else mask & ~hidden
        else:
            mask = mask.masked_fill(hidden, float("-inf"))
        causal = False
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal, scale=scale, enable_gqa=grouped)
