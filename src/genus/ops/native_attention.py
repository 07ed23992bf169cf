"""Attention by the kernels in C (`ops/cpu/attention.c`)."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native
from genus.ops.dropout import draw
from genus.ops.first_order import first_order

BEYOND = 80  # numbers behind a bias that the kernel may read and, in its gradient, write
_Strides, _Sizes = ctypes.c_int64 * 24, ctypes.c_int64 * 10
_Score = ctypes.c_float * 2


def forward_kernel() -> native.Kernel | None:
    return native.kernel("attention", "genus_attention", "pppppppppppppn")


def _backward_kernel() -> native.Kernel | None:
    return native.kernel("attention", "genus_attention_backward", "pppppppppppppppn")


def _rows(t: Tensor) -> Tensor:
    """The same numbers (batch, heads, time, head), those of a row side by side."""
    return t if t.stride(3) == 1 else t.contiguous()


def _like_projections(t: Tensor) -> Tensor:
    """An empty tensor of this shape (batch, heads, time, head), in the order in which a projection reads it."""
    batch, heads, time, head = t.shape
    return t.new_empty(batch, time, heads, head).transpose(1, 2)


class Native(torch.autograd.Function):
    """The kernels in C (`ops/cpu/attention.c`), which keep two numbers per query for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        seen: Tensor | None,
        causal: bool,
        scale: float,
        window: int | None,
        bias: Tensor | None,
        dropout: float,
        softcap: float | None,
    ) -> Tensor:
        q, k, v = _rows(q), _rows(k), _rows(v)
        y = _like_projections(q)
        (batch, heads, time, head), keys = q.shape, k.shape[2]
        kept = torch.empty(2, batch, heads, time)
        seed, threshold = draw() if dropout else 0, round(dropout * 65536)
        score = _Score(scale, softcap or 0.0)
        rows_seen = 0 if seen is None or len(seen) == 1 else keys
        sizes = _Sizes(batch, heads, time, keys, head, causal, window or time, rows_seen, seed, threshold)
        table = None if bias is None else F.pad(bias.float() * math.log2(math.e), (0, BEYOND))
        strides = [(ctypes.c_int64 * 3)(*t.stride()[:3]) for t in (q, k, v, y)]
        function = forward_kernel()
        assert function is not None
        function(
            q.data_ptr(),
            strides[0],
            k.data_ptr(),
            strides[1],
            v.data_ptr(),
            strides[2],
            sizes,
            score,
            None if seen is None else seen.data_ptr(),
            None if table is None else table.data_ptr(),
            y.data_ptr(),
            strides[3],
            kept.data_ptr(),
            torch.get_num_threads(),
            held=(q, k, v, seen, table, y, kept),
        )
        ctx.save_for_backward(q, k, v, y, kept, seen, table)
        ctx.sizes, ctx.score, ctx.bias = sizes, score, None if bias is None else bias.dtype
        return y

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, kept, seen, table = ctx.saved_tensors
        g = _rows(grads[0])
        dq, dk, dv = (_like_projections(t) for t in (q, k, v))
        d_table = table.new_zeros(len(q), *table.shape) if table is not None and ctx.needs_input_grad[7] else None
        function = _backward_kernel()
        assert function is not None
        function(
            *(t.data_ptr() for t in (q, k, v, y, g)),
            _Strides(*(n for t in (q, k, v, y, g, dq, dk, dv) for n in t.stride()[:3])),
            ctx.sizes,
            ctx.score,
            None if seen is None else seen.data_ptr(),
            None if table is None else table.data_ptr(),
            None if d_table is None else d_table.data_ptr(),
            kept.data_ptr(),
            dq.data_ptr(),
            dk.data_ptr(),
            dv.data_ptr(),
            torch.get_num_threads(),
            held=(q, k, v, y, g, seen, table, d_table, kept, dq, dk, dv),
        )
        d_bias = None if d_table is None else d_table.sum(0)[:, :-BEYOND].to(ctx.bias)
        return dq, dk, dv, None, None, None, None, d_bias, None, None
