"""Maxout: the larger of each two numbers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from genus.parts.ctx import Ctx
from genus.parts.linear import Linear, linear_parameters
from genus.spec import Spec


@dataclass(frozen=True)
class Maxout(Spec):
    """A linear map to twice `outputs` numbers, of which neighbours compete (Goodfellow et al. 2013)."""

    outputs: int = 500

    def width(self, dim: int) -> int:
        return self.outputs

    def parameters(self, dim: int) -> int:
        return linear_parameters(dim, 2 * self.outputs, bias=True)

    def flops(self, dim: int, length: int) -> float:
        return 2.0 * dim * 2 * self.outputs

    class Module(nn.Module):
        def __init__(self, spec: Maxout, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.proj = Linear(dim, 2 * spec.outputs, bias=True)

        def forward(self, x: Tensor, ctx: Ctx, state: dict[str, Tensor] | None = None) -> Tensor:
            return self.proj(x).unflatten(-1, (-1, 2)).amax(-1)  # type: ignore[no-any-return]
