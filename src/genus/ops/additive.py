"""Additive attention: a small network says how well a state and a position of the source match (Bahdanau et al. 2015).

Shapes: N rows, S source positions, A width of the alignment, M width of the values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genus.ops.dispatch import Op


@Op
def additive_attention(q: Tensor, k: Tensor, v: Tensor, energy: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of v weighted by `softmax_j energy' tanh(q + k_j)` (Bahdanau et al. 2015, eq. 5 and 6).

    Args:
        q: (N, A). k: (N, S, A). v: (N, S, M). energy: (A,). mask: (N, S) bool, True = may look; None = everywhere.

    Returns:
        (N, M).
    """
    meeting_NSA = torch.tanh(q[:, None] + k.to(q.dtype))
    energy_NS1 = meeting_NSA @ energy.to(q.dtype)[:, None]
    if mask is not None:
        energy_NS1 = energy_NS1.masked_fill(~mask[..., None], torch.finfo(q.dtype).min)
    weight = energy_NS1.softmax(1, dtype=torch.float32).to(q.dtype)
    return torch.bmm(weight.mT, v.to(q.dtype))[:, 0]
