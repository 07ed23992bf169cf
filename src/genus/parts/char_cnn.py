"""A token's vector from the bytes it is spelled with, instead of a row of a table (Kim et al. 2016).

Shapes: N tokens, L bytes of a token, C width of a byte's vector, F filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from genus.ops.activation import activation
from genus.ops.distinct import distinct
from genus.parts.linear import Linear, linear_parameters
from genus.spec import Spec

PAD, BEGIN, END, SPECIAL = range(4)  # what stands after a token, before it, at its end, and before one that is not text
FIRST = 4  # of the 256 bytes
SYMBOLS = FIRST + 256
CARRY = -2.0  # bias of the gates at the start: highway layers begin by handing on what they read (Kim et al. 2016, section 2.3)


@dataclass(frozen=True)
class CharCNN(Spec):
    """Filters of several widths over the bytes of a token, the largest answer of each; highway layers; a projection.

    Kim et al. 2016, sections 2.2 and 2.3, over bytes as in Peters et al. 2018. How each token is spelled is a table inside the
    module (`spell` fills it from a tokenizer) and is saved with the weights.

    Attributes:
        filters: how many there are of width 1, 2, 3 ... chars: width of a byte's vector. highway: layers after the filters.
        act: of the filters: tanh in Kim et al., relu in Peters et al. length: bytes of a token that are read, with its two
            borders; a longer token loses its end.
    """

    filters: tuple[int, ...] = (32, 32, 64, 128, 256, 512, 1024)
    chars: int = 16
    highway: int = 2
    act: Literal["relu", "tanh"] = "relu"
    length: int = 24

    def __post_init__(self) -> None:
        if not self.filters or len(self.filters) > self.length:
            raise ValueError(f"{len(self.filters)} widths of filters need tokens of at least that many bytes, not {self.length}")

    @property
    def inner(self) -> int:
        """Number of all filters."""
        return sum(self.filters)

    def parameters(self, dim: int) -> int:
        convolutions = sum(linear_parameters(w * self.chars, f, bias=True) for w, f in enumerate(self.filters, 1))
        highway = self.highway * linear_parameters(self.inner, 2 * self.inner, bias=True)
        return SYMBOLS * self.chars + convolutions + highway + linear_parameters(self.inner, dim, bias=True)

    def flops(self, dim: int, length: int) -> float:
        """Per token, as if none came twice."""
        convolutions = sum(2.0 * w * self.chars * f * (self.length - w + 1) for w, f in enumerate(self.filters, 1))
        return convolutions + self.highway * 4.0 * self.inner**2 + 2.0 * self.inner * dim

    class Module(nn.Module):
        spelling: Tensor

        def __init__(self, spec: CharCNN, dim: int, vocab: int) -> None:
            super().__init__()
            self.spec = spec
            self.symbols = nn.Embedding(SYMBOLS, spec.chars)
            self.convolutions = nn.ModuleList(Linear(w * spec.chars, f, bias=True) for w, f in enumerate(spec.filters, 1))
            self.highway = nn.ModuleList(Linear(spec.inner, 2 * spec.inner, bias=True) for _ in range(spec.highway))
            for layer in self.highway:
                nn.init.constant_(layer.bias[spec.inner :], CARRY)  # type: ignore[index]
            self.projection = Linear(spec.inner, dim, bias=True)
            # A model without a tokenizer: every id by its digits.
            names: list[bytes | None] = [str(i).encode() for i in range(vocab)]
            self.register_buffer("spelling", spelling(names, spec.length))

        @property
        def weight(self) -> Tensor:
            """The table of byte vectors."""
            return self.symbols.weight

        def spell(self, names: Sequence[bytes | None]) -> None:
            """Say how tokens are spelled; None = a token that is not text.

            Raises:
                ValueError: there are more names than tokens.
            """
            if len(names) > len(self.spelling):
                raise ValueError(f"{len(names):,} tokens are spelled, and the model has {len(self.spelling):,}")
            table = spelling(names, self.spec.length)
            self.spelling[: len(names)] = table.to(self.spelling.device)

        def forward(self, ids: Tensor) -> Tensor:
            """Ids (...) to vectors (..., dim)."""
            return distinct(self._vectors, ids)

        def _vectors(self, ids: Tensor) -> Tensor:
            x = self.symbols(self.spelling[ids].long())  # (..., L, C)
            found = []
            for width, convolution in enumerate(self.convolutions, 1):
                windows = x.unfold(-2, width, 1).flatten(-2)  # (..., L - width + 1, C * width)
                found.append(activation(self.spec.act, convolution(windows).amax(-2)))  # both activations keep the order
            y = torch.cat(found, dim=-1)
            for layer in self.highway:
                new, gate = layer(y).chunk(2, dim=-1)
                change = torch.sigmoid(gate)
                y = change * torch.relu(new) + (1 - change) * y
            return self.projection(y)  # type: ignore[no-any-return]


def spelling(names: Sequence[bytes | None], length: int) -> Tensor:
    """(N, L) symbols: a border, the bytes, a border, padding. What is not text (None) is spelled by the digits of its id."""
    table = np.full((len(names), length), PAD, dtype=np.int16)
    for i, name in enumerate(names):
        letters = np.frombuffer((str(i).encode() if name is None else name)[: length - 2], dtype=np.uint8)
        table[i, 0] = SPECIAL if name is None else BEGIN
        table[i, 1 : len(letters) + 1] = letters.astype(np.int16) + FIRST
        table[i, len(letters) + 1] = END
    return torch.from_numpy(table)
