"""Pointwise non-linearities by their published names."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = ("relu", "relu2", "gelu", "gelu_tanh", "silu", "tanh")


def activation(name: str, x: Tensor) -> Tensor:
    """`relu`, `relu2` (squared), `gelu` (erf), `gelu_tanh` (Hendrycks & Gimpel's approximation, as in GPT-2), `silu`, `tanh`."""
    match name:
        case "relu":
            return F.relu(x)
        case "relu2":
            return F.relu(x).square()
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "silu":
            return F.silu(x)
        case "tanh":
            return x.tanh()
    raise ValueError(f"there is no activation {name!r}; choose one of: {', '.join(ACTIVATIONS)}")
