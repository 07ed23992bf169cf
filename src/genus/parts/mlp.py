"""Channel mixers: the position-wise feed-forward layer and its gated and hidden-layer forms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.ops.activation import activation, gated
from genus.parts.ctx import Ctx
from genus.parts.linear import Linear, joined, linear_parameters
from genus.spec import Spec


@dataclass(frozen=True)
class MLP(Spec):
    """down(act(up(x))), or gated: down(act(gate(x)) * up(x)) (Shazeer 2020).

    Attributes:
        hidden: inner width, or as a float a multiple of the model's width.
    """

    hidden: int | float = 4.0
    act: str = "gelu"
    gated: bool = False
    bias: bool = False

    def inner(self, dim: int) -> int:
        """Inner width for a model of width `dim`."""
        return int(self.hidden * dim) if isinstance(self.hidden, float) else self.hidden

    def parameters(self, dim: int) -> int:
        inner = self.inner(dim)
        return (2 if self.gated else 1) * linear_parameters(dim, inner, self.bias) + linear_parameters(inner, dim, self.bias)

    def flops(self, dim: int, length: int) -> float:
        return 2.0 * dim * self.inner(dim) * (3 if self.gated else 2)

    class Module(nn.Module):
        def __init__(self, spec: MLP, dim: int) -> None:
            super().__init__()
            self.spec = spec
            inner = spec.inner(dim)
            self.gate_proj = Linear(dim, inner, spec.bias) if spec.gated else None
            self.up_proj = Linear(dim, inner, spec.bias)
            self.down_proj = Linear(inner, dim, spec.bias)

        def forward(self, x: Tensor, ctx: Ctx, state: None = None) -> Tensor:
            if self.gate_proj is None:
                return self.down_proj(activation(self.spec.act, self.up_proj(x)))  # type: ignore[no-any-return]
            gate, up = joined(x, self.gate_proj, self.up_proj)
            return self.down_proj(gated(self.spec.act, gate, up))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Hidden(Spec):
    """One hidden layer act(H x + d) that changes the width.

    Attributes:
        direct: append the layer's input to its output, so that the read-out also sees it (Bengio et al. 2003, eq. 1: W x).
    """

    outputs: int = 256
    act: str = "tanh"
    direct: bool = False

    def width(self, dim: int) -> int:
        return self.outputs + (dim if self.direct else 0)

    def parameters(self, dim: int) -> int:
        return linear_parameters(dim, self.outputs, bias=True)

    def flops(self, dim: int, length: int) -> float:
        return 2.0 * dim * self.outputs

    class Module(nn.Module):
        def __init__(self, spec: Hidden, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.proj = Linear(dim, spec.outputs, bias=True)

        def forward(self, x: Tensor, ctx: Ctx, state: None = None) -> Tensor:
            y = activation(self.spec.act, self.proj(x))
            return torch.cat([y, x], dim=-1) if self.spec.direct else y
