"""Fast weights: a matrix written by keys and values and read by queries (Schmidhuber 1992; Schlag et al. 2021).

Shapes: B batch, H heads, T time, F features of keys and queries, V value width; N chunks of C positions.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order

EPS = 1e-6  # added to the normaliser (Katharopoulos et al. 2020)
STEEPEST = -40.0  # exp(-40) is nothing beside 1; steeper decays would only cost the cumulative sums their digits

Memory = tuple[Tensor, Tensor | None]


def empty_memory(q: Tensor, v: Tensor, normalise: bool) -> Memory:
    """A memory of zeros: the matrix (B, H, F, V), and the sum of the keys (B, H, F) where outputs are normalised."""
    wide = torch.promote_types(q.dtype, torch.float32)
    matrix = torch.zeros(*q.shape[:2], q.shape[3], v.shape[3], dtype=wide, device=q.device)
    return matrix, torch.zeros_like(matrix[..., 0]) if normalise else None


@Op
def fast_weights(
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
    """`S_t = a_t S_{t-1} + k_t w_t'` with output `y_t = S_t' q_t`, where a = exp(log_decay).

    What is written is `w = v` (sum rule, linear attention), or `w = beta (v - a S' k)`: the error of what the memory
    already answers to that key (delta rule; Schlag et al. 2021, with decay Yang et al. 2025).

    Args:
        q, k: (B, H, T, F). v: (B, H, T, V). log_decay: (B, H, T), at most 0; None = keep everything.
        beta: (B, H, T); None = the sum rule. memory: what earlier calls left; None = empty.
        fresh: (B, T) bool: wipe the memory before this position.
        pad: (B, T) bool: neither write, decay nor wipe; the output is 0.
        normalise: divide y_t by `z_t' q_t`, z_t = a_t z_{t-1} + k_t.
        chunk: positions that the chunked path handles at once.

    Returns:
        y (B, H, T, V) in the precision of q, and the memory after the last position in float32 or better.
    """
    matrix, total = empty_memory(q, v, normalise) if memory is None else memory
    outputs = []
    for t in range(q.shape[2]):
        q_t, k_t, v_t = (x[:, :, t].to(matrix.dtype) for x in (q, k, v))
        keep = matrix.new_ones(1, 1) if log_decay is None else log_decay[:, :, t].to(matrix.dtype).exp()
        if fresh is not None:
            keep = keep * ~fresh[:, t, None]
        new = matrix * keep[..., None, None]
        if beta is not None:
            v_t = beta[:, :, t, None].to(matrix.dtype) * (v_t - _read(new, k_t))
        new = new + k_t[..., :, None] @ v_t[..., None, :]
        new_total = None if total is None else total * keep[..., None] + k_t
        y = _read(new, q_t)
        if new_total is not None:
            y = y / (_read(new_total[..., None], q_t) + EPS)
        if pad is not None:
            idle = pad[:, t, None, None]
            y, new = y.masked_fill(idle, 0), torch.where(idle[..., None], matrix, new)
            new_total = None if new_total is None or total is None else torch.where(idle, total, new_total)
        matrix, total = new, new_total
        outputs.append(y)
    return torch.stack(outputs, dim=2).to(q.dtype), (matrix, total)


def _read(matrix: Tensor, key: Tensor) -> Tensor:
    return (key[..., None, :] @ matrix)[..., 0, :]


@fast_weights.path("chunked", when=lambda q, *_, **__: q.shape[2] > 1)
def _fast_weights_chunked(
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
    """Everything inside chunks at once for all chunks; only the memory between chunks runs along time.

    Within a chunk the outputs are masked, unnormalised attention. The delta rule needs the written values first: they
    solve a triangular system (the WY form of Yang et al. 2024; with decay Yang et al. 2025).
    """
    matrix, total = empty_memory(q, v, normalise) if memory is None else memory
    time, dtype, wide = q.shape[2], q.dtype, matrix.dtype
    if pad is not None:  # a key of zeros writes nothing, under every rule
        idle = pad[:, None, :, None]
        q, k = q.masked_fill(idle, 0), k.masked_fill(idle, 0)
        log_decay = None if log_decay is None else log_decay.masked_fill(pad[:, None], 0)
        fresh = None if fresh is None else fresh & ~pad
    size = min(chunk, 1 << (time - 1).bit_length())
    q, k, v, log_decay, beta, fresh = _split(size, q, k, v, log_decay, beta, fresh)
    within, carry, leave, keep = _factors(size, log_decay, fresh, wide, q.device)

    mixed = (q @ k.mT) * within.to(dtype)
    old_q = q if carry is None else q * carry.to(dtype)[..., None]
    last_k = k if leave is None else k * leave.to(dtype)[..., None]
    if beta is None:
        matrices, matrix = _accumulate(last_k.mT @ v, keep, matrix)
        matrices = matrices.to(dtype)
    else:
        beta = beta.to(wide)[..., None]
        system = (beta * k.to(wide)) @ k.mT.to(wide) * within
        inverse = _UnitLowerInverse.apply(system).to(dtype)
        old_beta = beta if carry is None else beta * carry[..., None]
        new, used = inverse @ (v * beta.to(dtype)), inverse @ (k * old_beta.to(dtype))
        v, matrices, matrix = _delta_scan(new, used, last_k, keep, matrix)
    y = mixed @ v + old_q @ matrices
    if total is not None:
        totals, total = _accumulate(last_k.sum(-2, dtype=wide), keep, total)
        share = mixed.sum(-1, dtype=wide) + (old_q.to(wide) @ totals[..., None])[..., 0]
        y = (y / (share + EPS)[..., None]).to(dtype)
    return y.flatten(2, 3)[:, :, :time], (matrix, total)


def _split(size: int, q: Tensor, k: Tensor, v: Tensor, *rows: Tensor | None) -> tuple[Any, ...]:
    """Lengthen time to a multiple of `size` and cut it: (B, H, T, F) to (B, H, N, C, F), (..., T) to (..., N, C)."""
    rest = -q.shape[2] % size
    vectors = (x if not rest else F.pad(x, (0, 0, 0, rest)) for x in (q, k, v))
    numbers = (x if not rest or x is None else F.pad(x, (0, rest)) for x in rows)
    return (
        *(x.contiguous().unflatten(2, (-1, size)) for x in vectors),
        *(None if x is None else x.unflatten(-1, (-1, size)) for x in numbers),
    )


def _factors(
    size: int, log_decay: Tensor | None, fresh: Tensor | None, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """What is left of a key, by decay and by the borders of documents.

    Returns:
        within (.., C, C): of key j at query i. carry (.., C): of the memory before the chunk at query i. leave (.., C): of
        key j at the end of the chunk. keep: of the memory before the chunk at its end. All are (B or 1, H or 1, N, ..);
        the last three None where everything is left.
    """
    ones = torch.ones(size, size, dtype=torch.bool, device=device).tril()
    if log_decay is None and fresh is None:
        return ones.to(dtype), None, None, None
    number = None if fresh is None else fresh[:, None].cumsum(-1)  # of the document, counted within the chunk
    if log_decay is None:
        assert number is not None
        within = ((number[..., :, None] == number[..., None, :]) & ones).to(dtype)
        return within, (number == 0).to(dtype), (number == number[..., -1:]).to(dtype), (number[..., -1] == 0).to(dtype)
    # Logarithms are subtracted, never factors divided: nothing overflows, however steep the decay.
    since = log_decay.to(dtype).clamp(min=STEEPEST).cumsum(-1)
    between, left, last = since[..., :, None] - since[..., None, :], since[..., -1:] - since, since[..., -1]
    if number is None:
        return between.masked_fill(~ones, float("-inf")).exp(), since.exp(), left.exp(), last.exp()
    seen = (number[..., :, None] == number[..., None, :]) & ones
    return (
        between.masked_fill(~seen, float("-inf")).exp(),
        since.exp() * (number == 0),
        left.exp() * (number == number[..., -1:]),
        last.exp() * (number[..., -1] == 0),
    )


def _accumulate(writes: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor]:
    """Running sum over chunks (dimension 2) with decay: the value before every chunk, and after the last."""
    before, now = [], start
    factors = [None] * writes.shape[2] if keep is None else keep.unbind(2)
    for write, factor in zip(writes.unbind(2), factors, strict=True):  # one unbind: selecting in a loop has a quadratic backward
        before.append(now)
        now = (now if factor is None else now * factor.view(*factor.shape, *[1] * (now.dim() - 2))) + write
    return torch.stack(before, dim=2), now


class _UnitLowerInverse(torch.autograd.Function):
    """Inverse of `1 + strictly lower part of A`, by forward substitution; the backward pass is two products.

    Doubling powers of A would be faster still on paper, but cancels catastrophically once keys repeat.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a)
        inverse = torch.linalg.solve_triangular(a, one, upper=False, unitriangular=True)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        return -(inverse.mT @ grads[0] @ inverse.mT).tril(-1)


def _delta_scan(new: Tensor, used: Tensor, k: Tensor, keep: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Along the chunks: `v_n = new_n - used_n S_n` and `S_{n+1} = keep_n S_n + k_n' v_n`.

    Returns:
        v (B, H, N, C, V) and every S_n (B, H, N, F, V) in the precision of `new`; the last S (B, H, F, V) in that of `start`.
    """
    batch, heads = new.shape[:2]
    flat = None if keep is None else keep.expand(batch, heads, -1).flatten(0, 1)
    v, before, last = _DeltaScan.apply(new.flatten(0, 1), used.flatten(0, 1), k.flatten(0, 1), flat, start.flatten(0, 1))
    return tuple(x.unflatten(0, (batch, heads)) for x in (v, before, last))  # type: ignore[return-value]


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


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "heads", "features", "values")]
    _fields_ += [(f"{of}_{name}", ctypes.c_int64) for of in ("q", "k", "v", "decay", "beta") for name in ("row", "head")]
    _fields_ += [("eps", ctypes.c_float)]


def _kernel() -> native.Kernel | None:
    return native.kernel("steps", "genus_fast_weights", "pnppppppppppn")


def _one_step(
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


@fast_weights.path("native", when=_one_step)
def _fast_weights_native(
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
    others = [None if x is None else x.data_ptr() for x in (log_decay, beta, matrix, total, new, new_total)]
    function(
        ctypes.addressof(shape),
        q.dtype == torch.bfloat16,
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        *others,
        y.data_ptr(),
        torch.get_num_threads(),
        held=(shape, q, k, v, log_decay, beta, matrix, total, new, new_total, y),
    )
    return y, (new, new_total)
