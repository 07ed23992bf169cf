"""Passes on a GPU, captured as a graph: every kernel of a step in one launch, on other numbers in the same memory.

Attention reads as many keys as stand in a bucket, a power of two, whatever the rows hold, and hides what is not theirs: a graph
knows no lengths. What differs from pass to pass, tokens and lengths, comes in one copy; a state of constant size is copied in and
out, since whoever kept it may want it as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genus.generate.state import Held, Key, Layout, State, snapshot
from genus.ops.graph import Graphs
from genus.parts.ctx import Ctx

SMALLEST = 256  # positions of the first bucket
UNTRIED = -1  # a place that no tensor has
APART = 0.05  # by which share logits may differ from the model's: its kernels for other numbers of keys round otherwise


class Captures:
    """Captures passes of a model on a GPU.

    A graph belongs to the addresses of a growing state, to a number of rows and tokens, and to a bucket of positions.
    """

    def __init__(self, model: Any, layout: Layout, graphs: Graphs) -> None:
        self._model, self._layout, self._graphs, self._said = model, layout, graphs, False

    def logits(self, ids: Tensor, state: State, dtype: torch.dtype, run: Callable[[CapturedPass], Tensor]) -> Tensor:
        """The model's logits (B, T, V) by `run`. The state moves on. `ids`: on the processor."""
        logits = run(CapturedPass(self._model, self._layout, self._graphs, ids, state, dtype))
        state["start"] = state["start"] + ids.shape[1]
        return logits

    def without(self, reason: str) -> None:
        """Say once that decoding goes on without graphs."""
        if not self._said:
            warnings.warn(f"decoding goes on without CUDA graphs, slower: {reason}", RuntimeWarning, stacklevel=2)
        self._said = True


@dataclass(frozen=True)
class CapturedPass:
    """A pass from token ids (B, T), on the processor, to logits."""

    model: Any
    layout: Layout
    graphs: Graphs
    ids: Tensor
    state: State
    dtype: torch.dtype

    @cached_property
    def end(self) -> int:
        return int(self.state["start"].max()) + self.time

    @cached_property
    def bucket(self) -> int:
        return max(SMALLEST, 1 << (self.end - 1).bit_length())

    @cached_property
    def kind(self) -> Key:
        return self.ids.shape, self.dtype, self.bucket

    @property
    def time(self) -> int:
        return self.ids.shape[1]

    @property
    def layers(self) -> Any:
        return self.state["layers"]

    @cached_property
    def held(self) -> Held:
        found, memory = Held.of(self.layers, self.layout), self.state.get("memory_doc")
        return found if memory is None else replace(found, growing=[*found.growing, memory])

    @property
    def sent(self) -> Tensor:
        """(B, T + 1) the tokens of every row, and behind how many positions they stand."""
        return torch.cat([self.ids, self.state["start"][:, None]], 1)

    def key(self) -> Key:
        growing = [(t.shape, t.stride(), t.data_ptr()) for t in self.held.growing]
        return (*self.kind, *growing, *[(t.shape, t.dtype) for t in self.held.constant])

    def plain(self) -> Tensor:
        return self.model.decode(self.ids.to(self.graphs.device), {**self.state}, self.dtype)  # type: ignore[no-any-return]

    def record(self, room: int) -> CapturedStep:
        return CapturedStep.record(self, room)


@dataclass
class CapturedStep:
    """A captured pass.

    Attributes:
        kind: rows, tokens, precision and bucket. inputs: (B, T + 1) as `CapturedPass.sent`. constant, new: the state of constant
            size before and after. shared: tables that it reads. places: of the growing state, once it was tried on other numbers
            than those that it was captured with. room: positions that it looks at.
    """

    kind: Key
    replay: Callable[[], None]
    inputs: Tensor
    constant: list[Tensor]
    new: list[Tensor]
    logits: Tensor
    shared: dict[Any, Any]
    places: list[int]
    room: int

    @classmethod
    def record(cls, one: CapturedPass, room: int) -> CapturedStep:
        """The growing state is written to as by the model itself.

        Raises:
            Unrecordable: something in it cannot be captured.
        """
        model, time, layers = one.model, one.time, snapshot(one.layers)
        own, memory_doc = Held.of(layers, one.layout), one.state.get("memory_doc")
        end = min(one.bucket, room)
        shared: dict[Any, Any] = {}
        sent = one.sent
        inputs, constant = torch.empty_like(sent, device=one.graphs.device), [t.clone() for t in own.constant]
        one.graphs.send(sent, inputs)

        def work() -> list[Tensor]:
            own.put(constant)
            shared.clear()
            ctx = Ctx.placed(inputs[:, time], time, end)
            ctx.memory_doc, ctx.shared = memory_doc, shared
            logits = model.through(model.embed(inputs[:, :time], ctx.positions, None, one.dtype), ctx, layers)
            return [logits, *own.now()]

        replay, (logits, *new) = one.graphs.capture(work)
        return cls(one.kind, replay, inputs, constant, new, logits, shared, [UNTRIED], end)

    def again(self, one: CapturedPass, held: Held) -> Tensor:
        """The logits for other tokens, behind other numbers of positions."""
        one.graphs.send(one.sent, self.inputs)
        new = [torch.empty_like(t) for t in self.new]
        if new:
            torch._foreach_copy_(self.constant, held.constant)
        self.replay()
        if new:
            torch._foreach_copy_(new, self.new)
        held.put(new)
        return self.logits

    def agrees(self, mine: Tensor, its: Tensor) -> bool:
        """But for rounding."""
        a, b = mine.float(), its.float()
        return bool((a - b).norm() <= APART * b.norm())
