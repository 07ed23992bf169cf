"""Passes over one or a few tokens of each row without Python between the kernels: recorded for rows that stay, and replayed."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genus.generate.state import Layout, Path, State, at
from genus.ops.decode_attention import FEW, Spans
from genus.ops.tape import Recorder, Tape, Unrecordable, replayer
from genus.parts.ctx import Ctx

SEEN = 3  # passes of the same kind after which recording pays
TAPES = 32  # that are kept
Key = tuple[Any, ...]


class Replays:
    """Runs a model's stack and read-out over one or a few new tokens of every row, by a tape where there is one.

    A tape belongs to a number of rows, of tokens and the shapes of their state, wherever that lies. Its first replay, and the
    first with a growing state that has moved, is compared with what the model itself makes of the same step, bit for bit; where
    they differ, and where something cannot be recorded, the model runs as ever. A state of constant size is not written to: as
    the model does, a replay puts new tensors in its place.
    """

    def __init__(self, model: Any, layout: Layout) -> None:
        self._model, self._layout = model, layout
        self._steps: dict[Key, _Step | int] = {}  # a step, or how often the key was seen
        self._last: _Step | None = None
        self._tensors: list[weakref.ref[Tensor]] = []  # of the state that it was replayed with, which nobody else may want
        self._most = FEW if replayer() is not None and hasattr(model, "decode") else 0  # tokens of a row that may be recorded

    def takes(self, ids: Tensor, state: State) -> bool:
        """Whether this may run for the tokens (B, T) of rows."""
        few = len(ids) > 0 and 0 < ids.shape[1] <= self._most
        return few and isinstance(state["start"], Tensor) and state["start"].is_cpu

    def logits(self, ids: Tensor, state: State, dtype: torch.dtype) -> Tensor:
        """The model's logits (B, T, V) after as many tokens for each row (B, T). The result holds until the next call."""
        return self._model.decode(ids, state, dtype, self._through)  # type: ignore[no-any-return]

    def _through(self, x: Tensor, ctx: Ctx, layers: Any) -> Tensor:
        assert ctx.ragged is not None
        held = _Held.of(layers, self._layout)
        kind: Key = (x.shape, x.dtype, torch.get_num_threads())
        last = self._last
        if last is not None and last.kind == kind and ctx.ragged.end <= last.room and held.same(self._tensors):
            return self._again(last, x, ctx, held)  # nearly always, and without a look into the tensors
        self._last = None
        key = (*kind, *[(t.shape, t.stride()) for t in held.tensors])
        places = [t.data_ptr() for t in held.growing]
        found = self._steps.get(key, 0)
        if isinstance(found, _Step) and ctx.ragged.end <= found.room:
            self._put(key, found)  # those that were not used for the longest time go first
            if found.places == places:
                return self._again(found, x, ctx, held)
            found.places = places
            return self._tried(found, x, ctx, layers, held)
        if isinstance(found, int) and x.shape[1] <= self._most:
            self._put(key, found + 1)
            if found + 1 >= SEEN:
                room = min((at(layers, path).shape[axis] for path, axis in self._bounded(layers)), default=sys.maxsize)
                step = _Step.record(self._model.through, kind, x, ctx, layers, held, room)
                if step is not None:
                    self._put(key, step)
                    return self._tried(step, x, ctx, layers, held)
                self._most = x.shape[1] - 1
        return self._model.through(x, ctx, layers)  # type: ignore[no-any-return]

    def _again(self, step: _Step, x: Tensor, ctx: Ctx, held: _Held) -> Tensor:
        logits, self._last = step.again(x, ctx, held), step
        self._tensors = list(map(weakref.ref, (*held.growing, *held.now())))
        return logits

    def _bounded(self, layers: Any) -> list[tuple[Path, int]]:
        """The tensors that have no room for more positions than they have columns, and the dimension that counts those."""
        rings = self._layout.rings
        return [(path, axis) for path, axis in self._layout.text.items() if at(layers, path).shape[axis] != rings.get(path)]

    def _tried(self, step: _Step, x: Tensor, ctx: Ctx, layers: Any, held: _Held) -> Tensor:
        """The model's own output, with which the step's is compared, and the state too."""
        copied = replace(held, constant=[t.clone() for t in held.constant])  # elsewhere than where it was recorded
        again = step.again(x, ctx, copied).clone()
        its = held.now()
        held.put(held.constant)
        plain: Tensor = self._model.through(x, ctx, layers)
        if not all(torch.equal(a, b) for a, b in zip((again, *its), (plain, *held.now()), strict=True)):
            self._most = 0
            self._steps.clear()
        return plain

    def _put(self, key: Key, value: _Step | int) -> None:
        self._steps.pop(key, None)
        while len(self._steps) >= TAPES:
            del self._steps[next(iter(self._steps))]
        self._steps[key] = value


@dataclass(frozen=True)
class _Held:
    """The tensors of a state: those that grow with the text or come from a source, and those of constant size."""

    growing: list[Tensor]
    constant: list[Tensor]
    holders: list[tuple[Any, Any]]

    @classmethod
    def of(cls, layers: Any, layout: Layout) -> _Held:
        if not layout.constant:  # a path for each tensor would take longer than all else that is done here
            return cls([t for parts in layers for own in parts if own for t in own.values()], [], [])
        growing, constant, holders = [], [], []
        for i, parts in enumerate(layers):
            for j, own in enumerate(parts):
                for name, tensor in (own or {}).items():
                    if (i, j, name) in layout.text or (i, j, name) in layout.source:
                        growing.append(tensor)
                    else:
                        constant.append(tensor)
                        holders.append((own, name))
        return cls(growing, constant, holders)

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.growing, *self.constant]

    def same(self, tensors: Sequence[weakref.ref[Tensor]]) -> bool:
        """Whether these are its tensors themselves."""
        own = self.tensors
        return len(own) == len(tensors) and all(ref() is t for ref, t in zip(tensors, own))

    def now(self) -> list[Tensor]:
        """What stands in the place of the tensors of constant size."""
        return [holder[key] for holder, key in self.holders]

    def put(self, tensors: list[Tensor]) -> None:
        """Put others there."""
        for (holder, key), tensor in zip(self.holders, tensors, strict=True):
            holder[key] = tensor


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
class _Step:
    """A recorded step: what it reads is overwritten, then all calls are made again.

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
    def record(cls, through: Any, kind: Key, x: Tensor, ctx: Ctx, layers: Any, held: _Held, room: int) -> _Step | None:
        """The step, or None where something in it cannot be recorded. The growing state is written to as by the stack itself."""
        assert ctx.ragged is not None
        recorder = Recorder()
        ragged = replace(ctx.ragged, rows=ctx.ragged.rows.clone(), columns=ctx.ragged.columns.clone())
        own = _Once(ctx.positions.clone(), start=ctx.start, ragged=ragged)
        own.recorder, own.made, x = recorder, [], x.clone()
        try:
            y = recorder.record(lambda: through(x, own, layers))
        except Unrecordable:
            return None
        else:
            new = held.now()
        finally:
            held.put(held.constant)
        if not all(t.is_contiguous() and _alone(t) for t in new) or len({y.data_ptr(), *map(Tensor.data_ptr, new)}) <= len(new):
            return None
        recorder.tape.loosen([*held.growing, *held.constant, *new])
        return cls(kind, recorder.tape, x, own, y, [t.data_ptr() for t in held.growing], room)

    def again(self, x: Tensor, ctx: Ctx, held: _Held) -> Tensor:
        """The logits for other vectors in another context."""
        assert ctx.ragged is not None and self.ctx.ragged is not None
        self.x.copy_(x)
        self.ctx.ragged.columns.copy_(ctx.ragged.columns)
        for make, made in self.ctx.made:
            _overwrite(made, make(ctx))
        new = [torch.empty_like(t) for t in held.constant]
        self.tape.replay([*self.places, *(t.data_ptr() for t in (*held.constant, *new))])
        held.put(new)
        return self.y


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
