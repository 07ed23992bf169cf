"""Fast weights chunk by chunk, in C (`ops/cpu/chunks.c`), with their gradient.

Shapes: B batch, H heads, T time, F features of keys and queries, V value width; N chunks of C positions.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.fast_memory import EPS, Memory
from genus.ops.first_order import first_order
from genus.ops.heads import like_projections, side_by_side
from genus.ops.native import pointer

_Shape = ctypes.c_int64 * 30


def _forward_kernel() -> native.Kernel | None:
    return native.kernel("chunks", "genus_chunks", "pnpppppppppppppppppn")


def _backward_kernel() -> native.Kernel | None:
    return native.kernel("chunks", "genus_chunks_back", "pnppppppppppppppppppppppn")


def _whole(width: int) -> int:
    """Rounded up to the numbers of a vector."""
    return -(-width // 16) * 16


def _chunk(features: int, values: int, delta: bool) -> int:
    """Positions that the kernel handles at once, by measurement: the delta rule's substitution grows with their square."""
    return 32 if delta and max(features, values) <= 64 else 64


class _Chunks(torch.autograd.Function):
    """Keeps, where there is a gradient, the memory before every chunk in the precision of q, and of the delta rule the errors."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor | None,
        beta: Tensor | None,
        matrix: Tensor | None,
        total: Tensor | None,
        fresh: Tensor | None,
        pad: Tensor | None,
        normalise: bool,
        gradients: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        q, k, v = side_by_side(q), side_by_side(k), side_by_side(v)
        (batch, heads, time, features), values = q.shape, v.shape[3]
        y = like_projections(v)
        chunk = _chunk(features, values, beta is not None)
        numbers = torch.empty(0, dtype=torch.float32)
        end = numbers.new_empty(batch, heads, features, values)
        end_total = numbers.new_empty(batch, heads, features) if normalise else None
        kept: list[Tensor | None] = [None] * 4
        if gradients and any(ctx.needs_input_grad):
            chunks = -(-time // chunk)
            kept[0] = q.new_empty(batch, heads, chunks, _whole(features), _whole(values))
            kept[1] = None if beta is None else v.new_empty(v.shape)
            if normalise:
                kept[2], kept[3] = numbers.new_empty(batch, heads, chunks, _whole(features)), numbers.new_empty(q.shape[:3])
        sizes = batch, heads, time, features, values, chunk
        shape = _Shape(*sizes, *(n for t in (q, k, v, y) for n in t.stride()[:3]))
        extra = log_decay, beta, fresh, pad
        function = _forward_kernel()
        assert function is not None
        function(
            ctypes.addressof(shape),
            q.dtype == torch.bfloat16,
            *map(pointer, (q, k, v, *extra, matrix, total)),
            native.number(EPS),
            *map(pointer, (y, end, end_total, *kept)),
            torch.get_num_threads(),
            held=(shape, q, k, v, *extra, matrix, total, y, end, end_total, *kept),
        )
        ctx.save_for_backward(q, k, v, *extra, y, *kept)
        ctx.sizes, ctx.starts = sizes, (matrix is not None, total is not None)
        ctx.set_materialize_grads(False)
        return y, end, end_total

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, log_decay, beta, fresh, pad, y, *kept = ctx.saved_tensors
        g = torch.zeros_like(y) if grads[0] is None else side_by_side(grads[0])
        end, end_total = (None if t is None else t.contiguous() for t in grads[1:])
        dq, dk, dv = (like_projections(t) for t in (q, k, v))
        d_decay, d_beta = (None if t is None else torch.empty_like(t) for t in (log_decay, beta))
        batch, heads, _, features, values, _ = ctx.sizes
        numbers = torch.empty(0, dtype=torch.float32)
        start = numbers.new_empty(batch, heads, features, values) if ctx.starts[0] else None
        start_total = numbers.new_empty(batch, heads, features) if ctx.starts[1] else None
        shape = _Shape(*ctx.sizes, *(n for t in (q, k, v, y, g, dq, dk, dv) for n in t.stride()[:3]))
        tensors = q, k, v, log_decay, beta, fresh, pad, y, *kept, g, end, end_total
        results = dq, dk, dv, d_decay, d_beta, start, start_total
        function = _backward_kernel()
        assert function is not None
        function(
            ctypes.addressof(shape),
            q.dtype == torch.bfloat16,
            *map(pointer, (*tensors, *results)),
            torch.get_num_threads(),
            held=(shape, *tensors, *results),
        )
        return *results, None, None, None, None


def fits_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    beta: Tensor | None = None,
    memory: Memory | None = None,
    fresh: Tensor | None = None,
    pad: Tensor | None = None,
    normalise: bool = False,
    chunk: int = 64,
) -> bool:
    """Whether `native_chunks` takes these: more than one position, of one precision that kernels compute with."""
    if q.shape[2] < 2 or not native.computes(q) or not q.dtype == k.dtype == v.dtype or not v.numel() or not q.numel():
        return False
    if k.shape != q.shape or v.shape[:3] != q.shape[:3] or any(t is not None and t.dtype != torch.bool for t in (fresh, pad)):
        return False  # a kernel would read what is not there; other paths tell what does not fit
    if memory is not None:
        for kept, shape in zip(memory, ((*q.shape[:2], q.shape[3], v.shape[3]), (*q.shape[:2], q.shape[3])), strict=True):
            if kept is not None and (kept.dtype != torch.float32 or kept.shape != shape):
                return False
    return _forward_kernel() is not None


def native_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    beta: Tensor | None = None,
    memory: Memory | None = None,
    fresh: Tensor | None = None,
    pad: Tensor | None = None,
    normalise: bool = False,
    chunk: int = 64,
) -> tuple[Tensor, Memory]:
    """Everything of a chunk stays in the cache, and the memory runs along time in float32."""
    log_decay, beta = (None if t is None else t.float().expand(q.shape[:3]).contiguous() for t in (log_decay, beta))
    fresh, pad = (None if t is None else t.expand(len(q), q.shape[2]).contiguous() for t in (fresh, pad))
    matrix, total = (None, None) if memory is None else (None if m is None else m.contiguous() for m in memory)
    normalise = normalise if memory is None else total is not None
    y, matrix, total = _Chunks.apply(q, k, v, log_decay, beta, matrix, total, fresh, pad, normalise, torch.is_grad_enabled())
    return y, (matrix, total)
