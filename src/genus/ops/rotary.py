"""Rotary position embedding (Su et al. 2021), half-split convention."""

from __future__ import annotations

import torch
from torch import Tensor

from genus.ops.dispatch import Op


@Op
def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first 2n features of every head by its position's angles.

    Args:
        x: (batch, heads, time, head_dim).
        cos, sin: (time, n) or (batch, 1, time, n), n <= head_dim / 2; features i and n + i form a pair.
    """
    n = cos.shape[-1]
    a, b, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)
