"""What fast weights remember: a matrix per head, and the sum of the keys where outputs are normalised."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6  # added to the normaliser (Katharopoulos et al. 2020)

Memory = tuple[Tensor, Tensor | None]


def empty_memory(q: Tensor, v: Tensor, normalise: bool) -> Memory:
    """A memory of zeros: the matrix (B, H, F, V), and the sum of the keys (B, H, F) where outputs are normalised."""
    wide = torch.promote_types(q.dtype, torch.float32)
    matrix = torch.zeros(*q.shape[:2], q.shape[3], v.shape[3], dtype=wide, device=q.device)
    return matrix, torch.zeros_like(matrix[..., 0]) if normalise else None
