"""Fast weights: a matrix written by keys and values and read by queries (Schmidhuber 1992; Schlag et al. 2021).

Shapes: B batch, H heads, T time, F features of keys and queries, V value width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genus.ops.chunked_fast_weights import chunked_fast_weights
from genus.ops.dispatch import Op
from genus.ops.fast_memory import EPS, Memory, empty_memory
from genus.ops.fast_weights_chunks import fits_chunks, native_chunks
from genus.ops.fast_weights_step import fits_one_step, one_step


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


fast_weights.path("native chunks", when=fits_chunks)(native_chunks)
fast_weights.path("chunked", when=lambda q, *_, **__: q.shape[2] > 1)(chunked_fast_weights)
fast_weights.path("native", when=fits_one_step)(one_step)
