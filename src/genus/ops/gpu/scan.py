"""The memory of fast weights along the chunks, held in registers in float32 from the first chunk to the last.

Shapes: R rows (batch and heads), N chunks of C positions, F features of a key, V width of a value. Everything is dense.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from genus.ops.first_order import first_order

ROOM = 32 * 2**10  # bytes of the keys of a chunk: two such tiles find room in the shared memory of every GPU
AHEAD = 16 * 2**10  # up to which the next chunk's are fetched meanwhile, and registers of four warps are enough
PRECISION = tl.constexpr("tf32x3")  # of products of float32: three products for nearly all of its digits


@triton.jit
def _forward(
    v: tl.tensor,
    used: tl.tensor,
    k: tl.tensor,
    keep: tl.tensor,
    start: tl.tensor,
    values: tl.tensor,
    before: tl.tensor,
    last: tl.tensor,
    chunks: tl.tensor,
    size: tl.constexpr,
    features: tl.constexpr,
    width: tl.constexpr,
    DELTA: tl.constexpr,
    FADES: tl.constexpr,
    SIZE: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """A program for each row and some columns of its memory."""
    row = tl.program_id(0).to(tl.int64)
    c, f, w = tl.arange(0, SIZE), tl.arange(0, FEATURES), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    at_key, is_key = c[:, None] * features + f[None, :], (c[:, None] < size) & (f[None, :] < features)
    at_value, is_value = c[:, None] * width + w[None, :], (c[:, None] < size) & (w[None, :] < width)
    at_memory, is_memory = f[:, None] * width + w[None, :], (f[:, None] < features) & (w[None, :] < width)
    now = tl.load(start + row * features * width + at_memory, mask=is_memory, other=0.0)
    for n in range(chunks):
        chunk = row * chunks + n
        tl.store(before + chunk * features * width + at_memory, now.to(before.dtype.element_ty), mask=is_memory)
        value = tl.load(v + chunk * size * width + at_value, mask=is_value, other=0.0)
        if DELTA:
            read = tl.load(used + chunk * size * features + at_key, mask=is_key, other=0.0)
            answer = tl.dot(read, now.to(k.dtype.element_ty), input_precision=PRECISION)
            value = (value.to(tl.float32) - answer).to(k.dtype.element_ty)
            tl.store(values + chunk * size * width + at_value, value, mask=is_value)
        key = tl.load(k + chunk * size * features + at_key, mask=is_key, other=0.0)
        if FADES:
            now *= tl.load(keep + chunk)
        now = tl.dot(tl.trans(key), value, now, input_precision=PRECISION)
    tl.store(last + row * features * width + at_memory, now, mask=is_memory)


@triton.jit
def _backward(
    grad_v: tl.tensor,
    grad_before: tl.tensor,
    grad_last: tl.tensor,
    used: tl.tensor,
    k: tl.tensor,
    keep: tl.tensor,
    values: tl.tensor,
    after: tl.tensor,
    start: tl.tensor,
    chunks: tl.tensor,
    size: tl.constexpr,
    features: tl.constexpr,
    width: tl.constexpr,
    DELTA: tl.constexpr,
    FADES: tl.constexpr,
    SIZE: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """As `_forward`, from the last chunk to the first: what comes back to the memory is what is held."""
    row = tl.program_id(0).to(tl.int64)
    c, f, w = tl.arange(0, SIZE), tl.arange(0, FEATURES), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    at_key, is_key = c[:, None] * features + f[None, :], (c[:, None] < size) & (f[None, :] < features)
    at_value, is_value = c[:, None] * width + w[None, :], (c[:, None] < size) & (w[None, :] < width)
    at_memory, is_memory = f[:, None] * width + w[None, :], (f[:, None] < features) & (w[None, :] < width)
    now = tl.load(grad_last + row * features * width + at_memory, mask=is_memory, other=0.0)
    for m in range(chunks):
        chunk = row * chunks + chunks - 1 - m
        low = now.to(k.dtype.element_ty)
        tl.store(after + chunk * features * width + at_memory, low, mask=is_memory)
        key = tl.load(k + chunk * size * features + at_key, mask=is_key, other=0.0)
        value = tl.dot(key, low, input_precision=PRECISION)
        if DELTA:
            value += tl.load(grad_v + chunk * size * width + at_value, mask=is_value, other=0.0).to(tl.float32)
        tl.store(values + chunk * size * width + at_value, value.to(k.dtype.element_ty), mask=is_value)
        if FADES:
            now *= tl.load(keep + chunk)
        now += tl.load(grad_before + chunk * features * width + at_memory, mask=is_memory, other=0.0).to(tl.float32)
        if DELTA:
            read = tl.load(used + chunk * size * features + at_key, mask=is_key, other=0.0)
            now -= tl.dot(tl.trans(read), value.to(k.dtype.element_ty), input_precision=PRECISION)
    tl.store(start + row * features * width + at_memory, now, mask=is_memory)


def fits(k: Tensor) -> bool:
    """Whether a chunk of keys (..., C, F) finds room in a program."""
    return _tile(k) <= ROOM


def _tile(k: Tensor) -> int:
    return _padded(k.shape[-2]) * _padded(k.shape[-1]) * k.element_size()


def _padded(size: int) -> int:
    """The least size of a side of a tile that is multiplied."""
    return max(16, triton.next_power_of_2(size))


def _sizes(k: Tensor, v: Tensor) -> tuple[tuple[int, int], tuple[int, ...], dict[str, int]]:
    """The grid, the sizes that the kernels are told, and those that they are compiled for."""
    rows, chunks, size, features = k.shape
    width = v.shape[-1]
    block = min(32, _padded(width))
    made = {"SIZE": _padded(size), "FEATURES": _padded(features), "WIDTH": block}
    return (
        (rows, triton.cdiv(width, block)),
        (chunks, size, features, width),
        made | ({"num_warps": 4, "num_stages": 2} if _tile(k) <= AHEAD else {"num_warps": 8, "num_stages": 1}),
    )


@torch.library.custom_op("genus::memory_scan", mutates_args=())
def memory_scan(
    v: Tensor, used: Tensor | None, k: Tensor, keep: Tensor | None, start: Tensor, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Along the chunks: `w_n = v_n - used_n S_n`, or v_n where `used` is None, and `S_{n+1} = keep_n S_n + k_n' w_n`.

    Args:
        v: (R, N, C, V). used, k: (R, N, C, F), all three of one precision. keep: (R, N) float32. start: (R, F, V) float32.

    Returns:
        w (R, N, C, V), empty without `used`; every S_n (R, N, F, V), in float32 where `wide`; the last S in float32.
    """
    grid, sizes, made = _sizes(k, v)
    values, before, last = _results(v, used, k, keep, start, wide)
    flags = {"DELTA": used is not None, "FADES": keep is not None}
    with torch.cuda.device_of(k):
        _forward[grid](v, used, k, keep, start, values, before, last, *sizes, **flags, **made)
    return values, before, last


@memory_scan.register_fake
def _results(
    v: Tensor, used: Tensor | None, k: Tensor, keep: Tensor | None, start: Tensor, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rows, chunks, _, features = k.shape
    before = k.new_empty(rows, chunks, features, v.shape[-1], dtype=torch.float32 if wide else k.dtype)
    return v.new_empty(v.shape if used is not None else 0), before, start.new_empty(start.shape)


@torch.library.custom_op("genus::memory_scan_back", mutates_args=())
def memory_scan_back(
    grad_v: Tensor, grad_before: Tensor, grad_last: Tensor, used: Tensor | None, k: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What comes back: of v (R, N, C, V), of the memory after every chunk (R, N, F, V) in the precision of k, and of `start`.

    Args:
        grad_v: (R, N, C, V), what comes back of w; without `used` only its shape matters.
    """
    grid, sizes, made = _sizes(k, grad_v)
    values, after, start = _grads(grad_v, grad_before, grad_last, used, k, keep)
    flags = {"DELTA": used is not None, "FADES": keep is not None}
    with torch.cuda.device_of(k):
        _backward[grid](grad_v, grad_before, grad_last, used, k, keep, values, after, start, *sizes, **flags, **made)
    return values, after, start


@memory_scan_back.register_fake
def _grads(
    grad_v: Tensor, grad_before: Tensor, grad_last: Tensor, used: Tensor | None, k: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return k.new_empty(grad_v.shape), k.new_empty(grad_before.shape), grad_last.new_empty(grad_last.shape)


class Scan(torch.autograd.Function):
    """`memory_scan`, with a backward pass that leaves all outer products to one batched step."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, used: Tensor | None, k: Tensor, keep: Tensor | None, start: Tensor, wide: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        v, k, start = v.contiguous(), k.contiguous(), start.float().contiguous()
        used, keep = (None if x is None else x.contiguous() for x in (used, keep))
        values, before, last = memory_scan(v, used, k, keep, start, wide)
        ctx.save_for_backward(used, k, keep, v if used is None else values, before)
        return values, before, last

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        used, k, keep, v, before = ctx.saved_tensors
        of_v = v if used is None else grads[0].contiguous()
        grad, after, start = memory_scan_back(of_v, grads[1].contiguous(), grads[2].contiguous(), used, k, keep)
        grad_used = None if used is None else -(grad @ before.to(grad.dtype).mT)
        grad_keep = None if keep is None else (before * after).sum((-1, -2), dtype=keep.dtype)
        return grad, grad_used, v @ after.mT, grad_keep, start, None
