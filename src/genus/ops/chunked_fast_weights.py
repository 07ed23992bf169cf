"""Fast weights chunk by chunk, in torch.

Shapes: B batch, H heads, T time, F features of keys and queries, V value width; N chunks of C positions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops.fast_memory import EPS, Memory, empty_memory
from genus.ops.memory_scan import delta_scan, key_scan, sum_scan
from genus.ops.unit_lower import unit_lower_inverse

STEEPEST = -40.0  # exp(-40) is nothing beside 1; steeper decays would only cost the cumulative sums their digits


def chunked_fast_weights(
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
        matrices, matrix = sum_scan(v, last_k, keep, matrix)
    else:
        beta = beta.to(wide)[..., None]
        system = (beta * k.to(wide)) @ k.mT.to(wide) * within
        inverse = unit_lower_inverse(system).to(dtype)
        old_beta = beta if carry is None else beta * carry[..., None]
        new, used = inverse @ (v * beta.to(dtype)), inverse @ (k * old_beta.to(dtype))
        v, matrices, matrix = delta_scan(new, used, last_k, keep, matrix)
    y = mixed @ v + old_q @ matrices
    if total is not None:
        totals, total = key_scan(last_k, keep, total)
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
