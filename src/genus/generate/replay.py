"""Passes over one or a few tokens of each row without Python between the kernels: recorded for rows that stay, and replayed."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from genus.generate.captured import Captures
from genus.generate.state import Held, Key, Layout, Path, State, at
from genus.generate.taped import Tapes
from genus.ops.decode_attention import FEW
from genus.ops.graph import Graphs
from genus.ops.tape import Unrecordable, replayer

SEEN = 3  # passes of the same kind after which recording pays
STEPS = 32  # recorded ones that are kept


class Step(Protocol):
    """A recorded pass.

    Attributes:
        kind: of the passes that it may stand for. places: of the growing state that it was tried with. room: positions that it
            can hold.
    """

    kind: Key
    places: list[int]
    room: int

    def again(self, one: Any, held: Held) -> Tensor:
        """The logits (B, T, V) of another pass; they hold until the next call. The state `held` moves on."""

    def agrees(self, mine: Tensor, its: Tensor) -> bool:
        """Whether what it made may stand for what the model makes."""


class Pass(Protocol):
    """A pass of a model over `time` tokens of every row, which then has at most `end` positions.

    Attributes:
        kind: what is quickly told of it. layers, held: the state.
    """

    @property
    def kind(self) -> Key: ...
    @property
    def time(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def layers(self) -> Any: ...
    @property
    def held(self) -> Held: ...

    def key(self) -> Key:
        """What a recorded pass must share with it to stand for it, but for places."""

    def plain(self) -> Tensor:
        """The model's own logits; the state moves on."""

    def record(self, room: int) -> Step:
        """Record it, for a state of so many positions at most.

        Raises:
            Unrecordable: something in it cannot be recorded.
        """


class Recorder(Protocol):
    """How passes are recorded: on a tape, on the processor; as graphs, on a GPU."""

    def logits(self, ids: Tensor, state: State, dtype: torch.dtype, run: Callable[[Any], Tensor]) -> Tensor:
        """The model's logits (B, T, V), which `run` makes of a pass. The state moves on."""

    def without(self, reason: str) -> None:
        """Passes are not recorded any more."""


def recorder(model: Any, layout: Layout) -> Recorder | None:
    """That of the model's device; None where there is none."""
    device = next(iter([*model.parameters(), *model.buffers()])).device
    if not hasattr(model, "decode"):
        return None
    if device.type == "cuda":
        return Captures(model, layout, Graphs(device))
    return Tapes(model, layout) if device.type == "cpu" and replayer() is not None else None


class Replays:
    """Runs a model over one or a few new tokens of every row, by a recorded pass where there is one.

    A pass is recorded once it was seen a few times. What it then makes is compared with what the model itself makes of the same
    tokens, at first and wherever the state has moved; where they differ, and where something cannot be recorded, the model runs
    as ever.
    """

    def __init__(self, model: Any, layout: Layout, made: Recorder | None = None) -> None:
        self._layout, self._recorder = layout, made or recorder(model, layout)
        self._steps: dict[Key, Step | int] = {}  # a step, or how often the key was seen
        self._last: Step | None = None
        self._tensors: list[weakref.ref[Tensor]] = []  # of the state that it was replayed with, which nobody else may want
        self._most = 0 if self._recorder is None else FEW  # tokens of a row that may be recorded

    def takes(self, ids: Tensor, state: State) -> bool:
        """Whether this may run for the tokens (B, T) of rows."""
        few = len(ids) > 0 and 0 < ids.shape[1] <= self._most
        return few and isinstance(state["start"], Tensor) and state["start"].is_cpu

    def logits(self, ids: Tensor, state: State, dtype: torch.dtype) -> Tensor:
        """The model's logits (B, T, V) after as many tokens for each row (B, T), which lie on the processor.

        The result holds until the next call.
        """
        assert self._recorder is not None
        return self._recorder.logits(ids, state, dtype, self._run)

    def _run(self, one: Pass) -> Tensor:
        last, held = self._last, one.held
        if last is not None and last.kind == one.kind and one.end <= last.room and held.same(self._tensors):
            return self._again(last, one, held)  # nearly always, and without a look into the tensors
        self._last = None
        key = one.key()
        found = self._steps.get(key, 0)
        if not isinstance(found, int) and one.end <= found.room:
            self._put(key, found)  # those that were not used for the longest time go first
            places = held.places()
            if found.places == places:
                return self._again(found, one, held)
            found.places = places
            return self._tried(found, one)
        if isinstance(found, int) and one.time <= self._most:
            self._put(key, found + 1)
            step = self._recorded(one) if found + 1 >= SEEN else None
            if step is not None:
                self._put(key, step)
                return self._tried(step, one)
        return one.plain()

    def _recorded(self, one: Pass) -> Step | None:
        """A recorded pass; None where there is no room for it, or it cannot be recorded."""
        room = min((at(one.layers, path).shape[axis] for path, axis in self._bounded(one.layers)), default=sys.maxsize)
        if one.end > room:
            return None
        try:
            return one.record(room)
        except Unrecordable as error:
            self._without(one.time - 1, str(error))
            return None

    def _again(self, step: Step, one: Pass, held: Held) -> Tensor:
        logits, self._last = step.again(one, held), step
        self._tensors = list(map(weakref.ref, (*held.growing, *held.now())))
        return logits

    def _bounded(self, layers: Any) -> list[tuple[Path, int]]:
        """The tensors that have no room for more positions than they have columns, and the dimension that counts those."""
        rings = self._layout.rings
        return [(path, axis) for path, axis in self._layout.text.items() if at(layers, path).shape[axis] != rings.get(path)]

    def _tried(self, step: Step, one: Pass) -> Tensor:
        """The model's own output, with which the step's is compared, and the state too."""
        held = one.held
        copied = replace(held, constant=[t.clone() for t in held.constant])  # elsewhere than where it was recorded
        again = step.again(one, copied).clone()
        its = held.now()
        held.put(held.constant)
        plain = one.plain()
        if not all(step.agrees(a, b) for a, b in zip((again, *its), (plain, *held.now()), strict=True)):
            self._without(0, "a recorded step differs from the model")
        return plain

    def _without(self, most: int, reason: str) -> None:
        """Record no more than passes over so many tokens, and if these are none, forget what was recorded."""
        assert self._recorder is not None
        self._recorder.without(reason)
        self._most = most
        if not most:
            self._steps.clear()

    def _put(self, key: Key, value: Step | int) -> None:
        self._steps.pop(key, None)
        while len(self._steps) >= STEPS:
            del self._steps[next(iter(self._steps))]
        self._steps[key] = value
