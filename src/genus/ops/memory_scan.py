"""The memory of fast weights from chunk to chunk, the one thing in them that runs along time.

Shapes: B batch, H heads, N chunks of C positions, F features of keys, V value width. `keep` (B or 1, H or 1, N): what is left of
the memory at the end of a chunk, None = everything. `start`: the memory before the first chunk, in float32 or better.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genus.ops import gpu
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order


@Op
def sum_scan(v: Tensor, k: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor]:
    """`S_{n+1} = keep_n S_n + k_n' v_n`.

    Args:
        v: (B, H, N, C, V). k: (B, H, N, C, F).

    Returns:
        Every S_n (B, H, N, F, V) in the precision of v, and the last S (B, H, F, V) in that of `start`.
    """
    before, last = _accumulate(k.mT @ v, keep, start)
    return before.to(v.dtype), last


@Op
def key_scan(k: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor]:
    """`z_{n+1} = keep_n z_n + sum of the keys k_n`, k (B, H, N, C, F).

    Returns:
        Every z_n (B, H, N, F) and the last (B, H, F), in the precision of `start`.
    """
    return _accumulate(k.sum(-2, dtype=start.dtype), keep, start)


@Op
def delta_scan(v: Tensor, used: Tensor, k: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`w_n = v_n - used_n S_n` and `S_{n+1} = keep_n S_n + k_n' w_n`.

    Args:
        v: (B, H, N, C, V). used, k: (B, H, N, C, F).

    Returns:
        w (B, H, N, C, V) and every S_n (B, H, N, F, V) in the precision of v; the last S (B, H, F, V) in that of `start`.
    """
    written, before, now = [], [], start
    for n in range(k.shape[2]):
        low = now.to(v.dtype)
        w = v[:, :, n] - used[:, :, n] @ low
        written.append(w)
        before.append(low)
        now = (now if keep is None else now * keep[:, :, n, None, None]) + k[:, :, n].mT @ w
    return torch.stack(written, dim=2), torch.stack(before, dim=2), now


def _accumulate(writes: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor]:
    """Running sum over chunks (dimension 2) with decay: the value before every chunk, and after the last."""
    before, now = [], start
    factors = [None] * writes.shape[2] if keep is None else keep.unbind(2)
    for write, factor in zip(writes.unbind(2), factors, strict=True):  # one unbind: selecting in a loop has a quadratic backward
        before.append(now)
        now = (now if factor is None else now * factor.view(*factor.shape, *[1] * (now.dim() - 2))) + write
    return torch.stack(before, dim=2), now


def _takes(k: Tensor, start: Tensor, *others: Tensor) -> bool:
    """Whether the kernels in Triton take these."""
    if not k.is_cuda or start.dtype != torch.float32 or any(x.dtype != k.dtype for x in others) or not gpu.computes(k):
        return False
    from genus.ops.gpu.scan import fits

    return fits(k)


def _by_kernel(
    v: Tensor, used: Tensor | None, k: Tensor, keep: Tensor | None, start: Tensor, wide: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The written values (nothing without `used`), every memory, in float32 where `wide`, and the last."""
    from genus.ops.gpu.scan import Scan

    batch, heads = k.shape[:2]
    flat = [None if x is None else x.flatten(0, 1) for x in (v, used, k)]
    of_chunks = None if keep is None else keep.expand(batch, heads, -1).flatten(0, 1).float()
    w, before, last = Scan.apply(*flat, of_chunks, start.flatten(0, 1), wide)
    return w if used is None else w.view_as(v), before.unflatten(0, (batch, heads)), last.view_as(start)


@sum_scan.path("triton", when=lambda v, k, keep, start: _takes(k, start, v))
def _sum_scan_triton(v: Tensor, k: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor]:
    return _by_kernel(v, None, k, keep, start)[1:]


@key_scan.path("triton", when=lambda k, keep, start: _takes(k, start))
def _key_scan_triton(k: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the keys is a memory into which every key writes 1."""
    _, before, last = _by_kernel(k.new_ones(*k.shape[:-1], 1), None, k, keep, start.unsqueeze(-1), wide=True)
    return before.squeeze(-1), last.squeeze(-1)


@delta_scan.path("triton", when=lambda v, used, k, keep, start: _takes(k, start, v, used))
def _delta_scan_triton(v: Tensor, used: Tensor, k: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _by_kernel(v, used, k, keep, start)


@delta_scan.path("batched", when=lambda *_: True)
def _delta_scan_batched(v: Tensor, used: Tensor, k: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads = v.shape[:2]
    flat = None if keep is None else keep.expand(batch, heads, -1).flatten(0, 1)
    found = _DeltaScan.apply(v.flatten(0, 1), used.flatten(0, 1), k.flatten(0, 1), flat, start.flatten(0, 1))
    return tuple(x.unflatten(0, (batch, heads)) for x in found)  # type: ignore[return-value]


class _DeltaScan(torch.autograd.Function):
    """The recurrence over chunks with a backward pass that, too, leaves all outer products to one batched step."""

    @staticmethod
    def forward(
        ctx: Any, new: Tensor, used: Tensor, k: Tensor, keep: Tensor | None, start: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        values, before, now = [], [], start
        factors = [None] * new.shape[1] if keep is None else keep[..., None, None].unbind(1)
        turned = k.mT.contiguous()
        for u, w, kt, factor in zip(new.unbind(1), used.unbind(1), turned.unbind(1), factors, strict=True):
            low = now.to(new.dtype)
            value = torch.baddbmm(u, w, low, alpha=-1)
            before.append(low)
            values.append(value)
            now = _add_product(now if factor is None else now * factor, kt, value)
        v, matrices = torch.stack(values, dim=1), torch.stack(before, dim=1)
        ctx.save_for_backward(used, k, keep, v, matrices)
        return v, matrices, now

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        used, k, keep, v, matrices = ctx.saved_tensors
        grad_v, grad_matrices, now = grads
        factors = [None] * k.shape[1] if keep is None else keep[..., None, None].unbind(1)
        turned = used.mT.neg()
        steps = list(zip(grad_v.unbind(1), grad_matrices.unbind(1), k.unbind(1), turned.unbind(1), factors, strict=True))
        values, after = [], []
        for g, grad_matrix, k_n, wt, factor in reversed(steps):
            low = now.to(k.dtype)
            value = torch.baddbmm(g, k_n, low)
            after.append(low)
            values.append(value)
            now = _add_product((now if factor is None else now * factor) + grad_matrix, wt, value)
        grad, end = torch.stack(values[::-1], dim=1), torch.stack(after[::-1], dim=1)
        grad_keep = None if keep is None else (matrices * end).sum((-1, -2), dtype=keep.dtype)
        return grad, -(grad @ matrices.mT), v @ end.mT, grad_keep, now


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`total + a @ b`, the sum in the precision of `total`."""
    return torch.baddbmm(total, a, b) if total.dtype == a.dtype else total + a @ b
