"""From token ids to the first vector of the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.ops.dropout import dropout
from genus.parts.char_cnn import CharCNN
from genus.parts.linear import Linear, linear_parameters
from genus.parts.norm import Norm
from genus.parts.positions import Absolute
from genus.spec import Spec


@dataclass(frozen=True)
class Embedding(Spec):
    """A vector per token, times `scale`, plus a vector per position and per segment type.

    Attributes:
        vocab: number of tokens. positions: learned or sinusoidal vectors, None = the mixers know about order.
        types: number of segment types (BERT). norm: applied to the sum. dropout: on the result.
        dim: width of the table where it differs from the model's, followed by a projection (ALBERT's factorisation).
        spelled: in the place of the table, a network that reads how a token is spelled.
    """

    vocab: int = 256
    positions: Absolute | None = None
    types: int = 0
    norm: Norm | None = None
    scale: float = 1.0
    dropout: float = 0.0
    dim: int | None = None
    spelled: CharCNN | None = None

    def parameters(self, dim: int) -> int:
        inner = self.dim or dim
        count = self.spelled.parameters(inner) if self.spelled else self.vocab * inner
        count += self.types * inner
        count += self.positions.parameters(inner) if self.positions else 0
        count += self.norm.parameters(inner) if self.norm else 0
        return count + (linear_parameters(inner, dim, bias=True) if self.dim else 0)

    def flops(self, dim: int, length: int) -> float:
        spelled = self.spelled.flops(self.dim or dim, length) if self.spelled else 0.0
        return spelled + (2.0 * self.dim * dim if self.dim else 0.0)

    class Module(nn.Module):
        def __init__(self, spec: Embedding, dim: int) -> None:
            super().__init__()
            self.spec = spec
            inner = spec.dim or dim
            self.tokens = (
                spec.spelled.Module(spec.spelled, inner, spec.vocab) if spec.spelled else nn.Embedding(spec.vocab, inner)
            )
            self.positions = spec.positions.build(inner) if spec.positions else None
            self.types = nn.Embedding(spec.types, inner) if spec.types else None
            self.norm = spec.norm.build(inner) if spec.norm else None
            self.projection = Linear(inner, dim, bias=True) if spec.dim else None

        def forward(
            self,
            ids: Tensor,
            positions: Tensor,
            types: Tensor | None,
            dtype: torch.dtype,
        ) -> Tensor:
            """(batch, time) ids to (batch, time, dim) vectors in `dtype`."""
            x = self.tokens(ids)
            if self.spec.scale != 1.0:
                x = x * self.spec.scale
            if self.positions is not None:
                x = x + self.positions(positions)
            if self.types is not None:
                x = x + self.types(torch.zeros_like(ids) if types is None else types)
            x = x.to(dtype)
            if self.norm is not None:
                x = self.norm(x)
            if self.projection is not None:
                x = self.projection(x)
            return dropout(x, self.spec.dropout, self.training)
