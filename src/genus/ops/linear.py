"""Affine map with explicit precision."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from genus.ops.dispatch import Op


@Op
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` in the precision of `x`: (..., in) and (out, in) give (..., out).

    Master weights may be held in a higher precision than the activations; they are rounded here and nowhere else, and their
    gradient comes back in their own precision.
    """
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
