"""Normalisation of the residual stream, and of queries and keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.ops.norm import layer_norm, rms_norm
from genus.spec import Spec


@dataclass(frozen=True)
class Norm(Spec):
    """What every normalisation shares; use one of its children."""

    eps: float = 1e-5


@dataclass(frozen=True)
class LayerNorm(Norm):
    """Layer normalisation (Ba et al. 2016)."""

    bias: bool = True

    def parameters(self, dim: int) -> int:
        return 2 * dim if self.bias else dim

    class Module(nn.Module):
        bias: nn.Parameter | None

        def __init__(self, spec: LayerNorm, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.weight = nn.Parameter(torch.ones(dim))
            self.register_parameter("bias", nn.Parameter(torch.zeros(dim)) if spec.bias else None)

        def forward(self, x: Tensor) -> Tensor:
            return layer_norm(x, self.weight, self.bias, self.spec.eps)


@dataclass(frozen=True)
class RMSNorm(Norm):
    """Root-mean-square normalisation (Zhang & Sennrich 2019). `plus_one`: the weight is stored minus one, as in Gemma."""

    eps: float = 1e-6
    plus_one: bool = False

    def parameters(self, dim: int) -> int:
        return dim

    class Module(nn.Module):
        def __init__(self, spec: RMSNorm, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.weight = nn.Parameter(torch.zeros(dim) if spec.plus_one else torch.ones(dim))

        def forward(self, x: Tensor) -> Tensor:
            return rms_norm(x, self.weight + 1 if self.spec.plus_one else self.weight, self.spec.eps)
