"""Linear layer with explicit precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genus.ops.linear import linear, linears


class Linear(nn.Module):
    """`y = x W' + b` computed in the precision of `x`, whatever the precision of the master weights."""

    bias: nn.Parameter | None

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.register_parameter("bias", nn.Parameter(torch.zeros(outputs)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}"


def joined(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """What several linear layers make of the same input; one call where none of them is more than a matrix."""
    if all(type(layer) is Linear for layer in layers):
        plain: Any = layers
        return linears(x, tuple(layer.weight for layer in plain), tuple(layer.bias for layer in plain))
    return tuple(layer(x) for layer in layers)


def linear_parameters(inputs: int, outputs: int, bias: bool = False) -> int:
    """Number of parameters of `Linear`."""
    return inputs * outputs + (outputs if bias else 0)
