"""The same function of every token, computed once for each different token."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from genus.ops.dispatch import Op


@Op
def distinct(function: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """`function(ids)`, where the result at each place depends on the id at that place alone: (...) gives (..., dim)."""
    return function(ids)


@distinct.path("once", when=lambda function, ids: ids.numel() > 1)
def _distinct_once(function: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """Running text repeats its tokens: 8,192 positions of English hold some 1,500 different ones."""
    found, place = ids.unique(return_inverse=True)
    return F.embedding(place, function(found))
