"""A learned mixture of all layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.spec import Spec


@dataclass(frozen=True)
class ScalarMix(Spec):
    """gamma * sum over l of softmax(w)_l h_l (Peters et al. 2018, equation 1): each task decides which layers it reads.

    Attributes:
        layers: number of vectors per position, the embedding's output included: one more than the depth.
    """

    layers: int = 3

    def parameters(self, dim: int) -> int:
        return self.layers + 1

    class Module(nn.Module):
        def __init__(self, spec: ScalarMix, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.weights = nn.Parameter(torch.zeros(spec.layers))
            self.gamma = nn.Parameter(torch.ones(1))

        def forward(self, layers: Sequence[Tensor]) -> Tensor:
            """`layers` tensors (B, T, D) to one."""
            shares = self.gamma * self.weights.softmax(0)
            mixed = shares[0].to(layers[0].dtype) * layers[0]
            for share, layer in zip(shares[1:], layers[1:], strict=True):
                mixed = mixed + share.to(layer.dtype) * layer
            return mixed
