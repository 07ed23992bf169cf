"""Dropout (Srivastava et al. 2014) with cheap random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from genus.ops.dispatch import Op


@Op
def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p); the identity when not training."""
    if not training or p == 0.0:
        return x
    return x * (torch.rand_like(x, dtype=torch.float32) >= p).to(x.dtype) / (1 - p)


@dropout.path(
    "packed",
    when=lambda x, p, training=True: training and p > 0 and x.device.type == "cpu",
)
def _dropout_packed(x: Tensor, p: float, training: bool = True) -> Tensor:
    """The CPU generator runs on one thread, so draw 64 bits once for four 16-bit thresholds. `p` is rounded to 1/65536."""
    threshold = round(p * 65536)
    n = x.numel()
    bits = torch.empty((n + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    keep = bits.view(torch.int16)[:n].view(x.shape) >= threshold - 32768
    return x * (keep.to(x.dtype) * (65536 / (65536 - threshold)))
