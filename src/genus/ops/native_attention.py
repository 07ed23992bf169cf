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
from genus.ops.heads import like_projections, side_by_side
from genus.ops.native import pointer

BEYOND = 80  # numbers behind a bias that the kernel may read and, in its gradient, write
_Strides, _Sizes = ctypes.c_int64 * 24, ctypes.c_int64 * 10
_Score = ctypes.c_float * 2


def forward_kernel() -> native.Kernel | None:
    return native.kernel("attention", "genus_attention", "pppppppppppppn")


def _backward_kernel() -> native.Kernel | None:
    return native.kernel("attention", "genus_attention_backward", "pppppppppppppppn")


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
        q, k, v = side_by_side(q), side_by_side(k), side_by_side(v)
        y = like_projections(q)
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
            pointer(seen),
            pointer(table),
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
        g = side_by_side(grads[0])
        dq, dk, dv = (like_projections(t) for t in (q, k, v))
        d_table = table.new_zeros(len(q), *table.shape) if table is not None and ctx.needs_input_grad[7] else None
        function = _backward_kernel()
        assert function is not None
        function(
            *(t.data_ptr() for t in (q, k, v, y, g)),
            _Strides(*(n for t in (q, k, v, y, g, dq, dk, dv) for n in t.stride()[:3])),
            ctx.sizes,
            ctx.score,
            pointer(seen),
            pointer(table),
            pointer(d_table),
            kept.data_ptr(),
            dq.data_ptr(),
            dk.data_ptr(),
            dv.data_ptr(),
            torch.get_num_threads(),
            held=(q, k, v, y, g, seen, table, d_table, kept, dq, dk, dv),
        )
        d_bias = None if d_table is None else d_table.sum(0)[:, :-BEYOND].to(ctx.bias)
        return dq, dk, dv, None, None, None, None, d_bias, None, None
