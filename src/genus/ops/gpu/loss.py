"""The cross-entropy of rows of logits, and what comes back to them, written over them: `ops/cpu/loss.c` for a GPU."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # symbols that a program holds at once
WARPS = 8


@triton.jit
def _capped(x: tl.tensor, cap: tl.tensor, CAPPED: tl.constexpr) -> tl.tensor:
    x = x.to(tl.float32)
    if CAPPED:  # tanh(z) = 1 - 2 / (1 + e^2z)
        x = cap * (1 - 2 / (1 + tl.exp(x * (2 / cap))))
    return x


@triton.jit
def _losses(
    logits: tl.tensor,
    targets: tl.tensor,
    lost: tl.tensor,
    count: tl.tensor,
    ignore: tl.tensor,
    cap: tl.tensor,
    smoothing: tl.tensor,
    factor: tl.tensor,
    CAPPED: tl.constexpr,
    SMOOTHED: tl.constexpr,
    BACK: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """A program for each row. Once over the symbols for their greatest and their sum, once for what comes back."""
    row = tl.program_id(0).to(tl.int64)
    own_row = logits + row * count
    target = tl.load(targets + row)
    columns = tl.arange(0, BLOCK)
    if target == ignore:
        tl.store(lost + row, 0.0)
        if BACK:
            for start in range(0, count, BLOCK):
                place = start + columns
                tl.store(own_row + place, tl.zeros([BLOCK], dtype=tl.float32).to(logits.dtype.element_ty), mask=place < count)
        return
    most = tl.full([], float("-inf"), dtype=tl.float32)
    total = tl.full([], 0.0, dtype=tl.float32)
    mean = tl.full([], 0.0, dtype=tl.float32)
    for start in range(0, count, BLOCK):
        there = start + columns < count
        z = _capped(tl.load(own_row + start + columns, mask=there, other=0.0), cap, CAPPED)
        mean += tl.sum(tl.where(there, z, 0.0), axis=0) / count
        z = tl.where(there, z, float("-inf"))
        before = most
        most = tl.maximum(most, tl.max(z, axis=0))
        base = tl.where(most == float("-inf"), 0.0, most)  # nothing but -inf so far: exp(-inf), not exp(-inf + inf)
        total = total * tl.exp(before - base) + tl.sum(tl.exp(z - base), axis=0)
    known = (target >= 0) & (target < count)  # the caller tells of others
    own = _capped(tl.load(own_row + target, mask=known, other=0.0), cap, CAPPED)
    lose = tl.log(total) + most - own
    if SMOOTHED:
        lose += smoothing * (own - mean)
    tl.store(lost + row, lose)
    if BACK:
        tl.debug_barrier()  # every thread has read the target's logit before one of them writes over it
        part = smoothing / count
        hit = (tl.exp(own - most) - total) / total + smoothing - part  # p - 1 from the sum: exact where p is near 1
        for start in range(0, count, BLOCK):
            place = start + columns
            z = _capped(tl.load(own_row + place, mask=place < count, other=0.0), cap, CAPPED)
            g = tl.where(place == target, hit, tl.exp(z - most) / total - part) * factor
            if CAPPED:  # how fast a capped logit grows with the logit
                g *= 1 - (z / cap) * (z / cap)
            tl.store(own_row + place, g.to(logits.dtype.element_ty), mask=place < count)


@torch.library.custom_op("genus::losses_", mutates_args=("logits",))  # opaque to a compiler, which would unroll nothing of it
def losses(
    logits: Tensor, targets: Tensor, ignore: int, factor: float, softcap: float | None, smoothing: float, back: bool
) -> Tensor:
    """(rows,) float32 losses of logits (rows, vocabulary), both dense; where `back`, the logits become `factor` times their
    gradient. Targets are `ignore` or symbols."""
    lost = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    block = min(BLOCK, triton.next_power_of_2(logits.shape[1]))
    with torch.cuda.device_of(logits):
        _losses[(len(logits),)](
            logits,
            targets,
            lost,
            logits.shape[1],
            ignore,
            softcap or 0.0,
            smoothing,
            factor,
            CAPPED=softcap is not None,
            SMOOTHED=smoothing != 0,
            BACK=back,
            BLOCK=block,
            num_warps=WARPS,
        )
    return lost


@losses.register_fake
def _(logits: Tensor, targets: Tensor, ignore: int, factor: float, softcap: float | None, smoothing: float, back: bool) -> Tensor:
    return logits.new_empty(len(logits), dtype=torch.float32)
