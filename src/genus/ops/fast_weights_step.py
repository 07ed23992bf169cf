"""Fast weights one position at a time, in C."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.fast_memory import EPS, Memory


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "heads", "features", "values")]
    _fields_ += [(f"{of}_{name}", ctypes.c_int64) for of in ("q", "k", "v", "decay", "beta") for name in ("row", "head")]
    _fields_ += [("eps", ctypes.c_float)]


def _kernel() -> native.Kernel | None:
    return native.kernel("steps", "genus_fast_weights", "pnppppppppppn")


def fits_one_step(
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
    if q.shape[2] != 1 or memory is None or fresh is not None or pad is not None or not q.dtype == k.dtype == v.dtype:
        return False
    numbers = [x for x in (log_decay, beta, *memory) if x is not None]
    if not all(x.dtype == torch.float32 for x in numbers) or not all(m is None or m.is_contiguous() for m in memory):
        return False
    return q.stride(3) == k.stride(3) == v.stride(3) == 1 and native.reads(q, k, v, *numbers) and _kernel() is not None


def one_step(
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
    """The kernel in C (`ops/cpu/steps.c`) for one position: it goes over the memory once for what it holds, once to write."""
    assert memory is not None
    matrix, total = memory
    new, new_total = torch.empty_like(matrix), None if total is None else torch.empty_like(total)
    y = v.new_empty(v.shape)
    strides = [n for x in (q, k, v) for n in x.stride()[:2]]
    strides += [n for x in (log_decay, beta) for n in ((0, 0) if x is None else x.stride()[:2])]
    shape = _Shape(len(q), q.shape[1], q.shape[3], v.shape[3], *strides, EPS)
    function = _kernel()
    assert function is not None
    function(
        ctypes.addressof(shape),
        q.dtype == torch.bfloat16,
        *map(native.pointer, (q, k, v, log_decay, beta, matrix, total, new, new_total, y)),
        torch.get_num_threads(),
        held=(shape, q, k, v, log_decay, beta, matrix, total, new, new_total, y),
    )
    return y, (new, new_total)
