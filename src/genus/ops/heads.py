"""Vectors of heads (batch, heads, time, width) as projections make and read them: the heads of a position side by side."""

from __future__ import annotations

from torch import Tensor


def side_by_side(t: Tensor) -> Tensor:
    """The same numbers, those of a vector side by side in memory."""
    return t if t.stride(3) == 1 else t.contiguous()


def like_projections(t: Tensor) -> Tensor:
    """An empty tensor of this shape, in the order in which a projection reads it."""
    batch, heads, time, width = t.shape
    return t.new_empty(batch, time, heads, width).transpose(1, 2)
