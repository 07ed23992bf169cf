"""What a recurrent decoder learns of the source: a summary that never changes, or a search anew at every step.

Shapes: N rows, S source positions, M width of the encoder's output, H width of the decoder's state, A width of the alignment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genus.ops.additive import additive_attention
from genus.parts.linear import Linear, linear_parameters
from genus.spec import Spec


@dataclass(frozen=True)
class SourceContext(Spec):
    """Use one of its children. A module of it is built for the widths M and H, and keeps nothing: what it prepares is data.

    Its `prepare(memory, visible)` gives the tensors that every step needs, `first(prepared)` the vector that the decoder's first
    state is made from, and `read(state, prepared)` the context (N, width) of one step.
    """

    every_step: ClassVar[bool] = True  # whether the context depends on the decoder's state

    def gives(self, memory: int, hidden: int) -> int:
        """Width of the context."""
        raise NotImplementedError

    def first(self, memory: int, hidden: int) -> int:
        """Width of the vector that the first state is made from."""
        raise NotImplementedError

    def count(self, memory: int, hidden: int) -> int:
        """Number of parameters."""
        raise NotImplementedError

    def work(self, memory: int, hidden: int, length: int) -> float:
        """Operations per target position, for source and target of `length` positions."""
        raise NotImplementedError


@dataclass(frozen=True)
class Additive(SourceContext):
    """A weighted mean of the encoder's output (Bahdanau et al. 2015, eq. 5 and 6, appendix A.1.2).

    The weight of source position j before step i is the softmax over j of v' tanh(W s_{i-1} + U h_j). The decoder starts from
    what the backward encoder, the second half of the memory, says of the first position.
    """

    align: int = 1000

    def gives(self, memory: int, hidden: int) -> int:
        return memory

    def first(self, memory: int, hidden: int) -> int:
        return memory // 2

    def count(self, memory: int, hidden: int) -> int:
        return linear_parameters(hidden, self.align) + linear_parameters(memory, self.align) + self.align

    def work(self, memory: int, hidden: int, length: int) -> float:
        return 2.0 * self.align * (hidden + memory) + 2.0 * length * (self.align + memory)

    class Module(nn.Module):
        state_axes: ClassVar[dict[str, int]] = {"memory": 1, "keys": 1, "visible": 1}  # where they count source positions

        def __init__(self, spec: Additive, memory: int, hidden: int) -> None:
            super().__init__()
            self.query = Linear(hidden, spec.align)
            self.key = Linear(memory, spec.align)
            self.energy = nn.Parameter(torch.zeros(spec.align))  # the paper's start: it looks everywhere alike

        def prepare(self, memory: Tensor, visible: Tensor | None) -> dict[str, Tensor]:
            return {"memory": memory, "keys": self.key(memory), **({} if visible is None else {"visible": visible})}

        def first(self, prepared: dict[str, Tensor]) -> Tensor:
            memory, visible = prepared["memory"], prepared.get("visible")
            backward = memory[..., memory.shape[-1] // 2 :]
            return backward[:, 0] if visible is None else _at(backward, visible.long().argmax(1))

        def read(self, state: Tensor, prepared: dict[str, Tensor]) -> Tensor:
            keys, memory, visible = prepared["keys"], prepared["memory"], prepared.get("visible")
            return additive_attention(self.query(state), keys, memory, self.energy, visible)


@dataclass(frozen=True)
class Summary(SourceContext):
    """The encoder's last state through a layer: all that is known of a source of any length (Cho et al. 2014, appendix A.1.2)."""

    every_step: ClassVar[bool] = False

    def gives(self, memory: int, hidden: int) -> int:
        return hidden

    def first(self, memory: int, hidden: int) -> int:
        return hidden

    def count(self, memory: int, hidden: int) -> int:
        return linear_parameters(memory, hidden, bias=True)

    def work(self, memory: int, hidden: int, length: int) -> float:
        return 2.0 * memory * hidden / length  # once

    class Module(nn.Module):
        state_axes: ClassVar[dict[str, int]] = {}

        def __init__(self, spec: Summary, memory: int, hidden: int) -> None:
            super().__init__()
            self.proj = Linear(memory, hidden, bias=True)

        def prepare(self, memory: Tensor, visible: Tensor | None) -> dict[str, Tensor]:
            last = memory[:, -1] if visible is None else _at(memory, memory.shape[1] - 1 - visible.flip(1).long().argmax(1))
            return {"context": torch.tanh(self.proj(last))}

        def first(self, prepared: dict[str, Tensor]) -> Tensor:
            return prepared["context"]

        def read(self, state: Tensor, prepared: dict[str, Tensor]) -> Tensor:
            return prepared["context"].to(state.dtype)


def _at(x: Tensor, place: Tensor) -> Tensor:
    """(N, M): row n of x (N, S, M) at place[n]."""
    return x[torch.arange(len(x), device=x.device), place]


Reader = Any  # a module of a `SourceContext`
