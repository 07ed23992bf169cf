"""Passes on the processor, recorded on a tape: the calls of kernels in C, made again without Python between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genus.generate.state import Held, Key, Layout, State
from genus.ops.decode_attention import Spans
from genus.ops.tape import Recorder, Tape, Unrecordable
from genus.parts.ctx import Ctx


class Tapes:
    """Records passes of a model whose state lies in the processor's memory.

    A tape belongs to the shapes of a state, wherever that lies. A state of constant size is not written to: as the model does, a
    replay puts new tensors in its place.
    """

    def __init__(self, model: Any, layout: Layout) -> None:
        self._model, self._layout = model, layout

    def logits(self, ids: Tensor, state: State, dtype: torch.dtype, run: Callable[[TapedPass], Tensor]) -> Tensor:
        """The model's logits (B, T, V), the stack and the read-out being run by `run`. The state moves on."""

        def through(x: Tensor, ctx: Ctx, layers: Any) -> Tensor:
            return run(TapedPass(self._model, self._layout, x, ctx, layers))

        return self._model.decode(ids, state, dtype, through)  # type: ignore[no-any-return]

    def without(self, reason: str) -> None:
        """Nothing is said: the model's own kernels run as ever."""


@dataclass
class TapedPass:
    """A pass through stack and read-out."""

    model: Any
    layout: Layout
    x: Tensor
    ctx: Ctx
    layers: Any

    @property
    def kind(self) -> Key:
        return self.x.shape, self.x.dtype, torch.get_num_threads()

    @property
    def time(self) -> int:
        return self.x.shape[1]

    @property
    def end(self) -> int:
        assert self.ctx.ragged is not None
        return self.ctx.ragged.end

    @cached_property
    def held(self) -> Held:
        return Held.of(self.layers, self.layout)

    def key(self) -> Key:
        return (*self.kind, *[(t.shape, t.stride()) for t in self.held.tensors])

    def plain(self) -> Tensor:
        return self.model.through(self.x, self.ctx, self.layers)  # type: ignore[no-any-return]

    def record(self, room: int) -> TapedStep:
        return TapedStep.record(self, room)


class _Once(Ctx):
    """A context that remembers how what the layers share was made."""

    recorder: Recorder
    made: list[tuple[Any, Any]]

    def once(self, key: Any, make: Any) -> Any:
        if key not in self.shared:
            self.shared[key] = self.recorder.paused(lambda: _whole(make(self)))
            self.made.append((make, self.shared[key]))
        return self.shared[key]


@dataclass
class TapedStep:
    """A recorded pass: what it reads is overwritten, then all calls are made again.

    Attributes:
        kind: rows, tokens, width, precision and threads. places: of the growing state. room: positions that it has; the kernels
            do not look.
    """

    kind: Key
    tape: Tape
    x: Tensor
    ctx: _Once
    y: Tensor
    places: list[int]
    room: int

    @classmethod
    def record(cls, one: TapedPass, room: int) -> TapedStep:
        """The growing state is written to as by the stack itself.

        Raises:
            Unrecordable: something in it cannot be recorded.
        """
        assert one.ctx.ragged is not None
        recorder, held = Recorder(), one.held
        ragged = replace(one.ctx.ragged, rows=one.ctx.ragged.rows.clone(), columns=one.ctx.ragged.columns.clone())
        own = _Once(one.ctx.positions.clone(), start=one.ctx.start, ragged=ragged)
        own.recorder, own.made, x = recorder, [], one.x.clone()
        try:
            y = recorder.record(lambda: one.model.through(x, own, one.layers))
            new = held.now()
        finally:
            held.put(held.constant)
        if not all(t.is_contiguous() and _alone(t) for t in new) or len({y.data_ptr(), *map(Tensor.data_ptr, new)}) <= len(new):
            raise Unrecordable("a state that lies where something else does")
        recorder.tape.loosen([*held.growing, *held.constant, *new])
        return cls(one.kind, recorder.tape, x, own, y, held.places(), room)

    def again(self, one: TapedPass, held: Held) -> Tensor:
        """The logits for other vectors in another context."""
        assert one.ctx.ragged is not None and self.ctx.ragged is not None
        self.x.copy_(one.x)
        self.ctx.ragged.columns.copy_(one.ctx.ragged.columns)
        for make, made in self.ctx.made:
            _overwrite(made, make(one.ctx))
        new = [torch.empty_like(t) for t in held.constant]
        self.tape.replay([*self.places, *(t.data_ptr() for t in (*held.constant, *new))])
        held.put(new)
        return self.y

    def agrees(self, mine: Tensor, its: Tensor) -> bool:
        """Bit for bit."""
        return torch.equal(mine, its)


def _alone(tensor: Tensor) -> bool:
    """Whether nothing else lies in its memory."""
    return tensor.untyped_storage().nbytes() == tensor.nbytes


def _whole(made: Any) -> Any:
    """The same thing, with what it would only make on demand."""
    if isinstance(made, Spans):
        made.table  # noqa: B018
    return made


def _overwrite(old: Any, new: Any) -> None:
    if isinstance(old, tuple):
        for a, b in zip(old, new, strict=True):
            _overwrite(a, b)
    elif isinstance(old, Spans):
        old.table.copy_(new.table)
    else:
        old.copy_(new)
