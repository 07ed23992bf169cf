"""What attention asks of pairs of a query and a key: whether one is hidden from the other, and what their distance is worth.

Queries and keys are named by their places, as slices.
"""

from __future__ import annotations

import torch
from torch import Tensor


def back(queries: slice, keys: slice, device: torch.device) -> Tensor:
    """(queries, keys): how far the key lies before the query."""
    at = (torch.arange(places.start, places.stop, device=device) for places in (queries, keys))
    return next(at)[:, None] - next(at)


def hidden(queries: slice, keys: slice, window: int | None, device: torch.device) -> Tensor:
    """(queries, keys): True where the key comes after the query, or before its window."""
    distance = back(queries, keys, device)
    return distance < 0 if window is None else (distance < 0) | (distance >= window)


def added(bias: Tensor, queries: slice, keys: slice, count: int) -> Tensor:
    """(heads, queries, keys) of a bias (heads, time + count - 1) by distance, where there are `count` keys."""
    return bias[:, back(queries, keys, bias.device) + count - 1]
