"""Operations on a model's state as plain data. Every tensor of a state has the rows of the batch as its first dimension.

Two kinds of tensors live in a state. Those that *grow* with the text (keys and values) or come from the source of an
encoder-decoder are written in place, always behind the positions that the state holds. All others have a *constant* size (a
recurrent layer's cell, a fast weight memory, a window of inputs), and a forward pass puts a new tensor in their place. So a
snapshot of a state is a copy of its dictionaries, and costs nothing.

Some tensors grow only up to a size: *rings*, in which a layer that sees a window of the text keeps that and a little more
(`genus.parts.ring`). There, position p lies in column p % size.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
Key = tuple[Any, ...]  # what a recorded pass must share with another one
Path = tuple[Any, ...]  # indices and the name that lead to a tensor of `state["layers"]`
MEMORY: Path = ("memory_doc",)  # which part of a row's source is padding


def leaves(layers: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Every tensor of a state's layers: its path, what holds it, and its key there."""
    for key, value in layers.items() if isinstance(layers, dict) else enumerate(layers):
        if isinstance(value, Tensor):
            yield (*path, key), layers, key
        elif isinstance(value, dict | list):
            yield from leaves(value, (*path, key))


def at(layers: Any, path: Path) -> Tensor:
    """The tensor at a path."""
    for key in path:
        layers = layers[key]
    return layers  # type: ignore[no-any-return]


def select_rows(state: Any, rows: Tensor) -> Any:
    """The same state with only some rows (B,) of the batch, in the order given."""
    if isinstance(state, Tensor):
        return state.index_select(0, rows.to(state.device))
    if isinstance(state, dict):
        return {key: select_rows(value, rows) for key, value in state.items()}
    if isinstance(state, list):
        return [select_rows(value, rows) for value in state]
    return state


def snapshot(state: Any) -> Any:
    """The state as it is now: `restore` leads back to it, however far the state has gone on in the meantime."""
    if isinstance(state, dict):
        return {key: snapshot(value) for key, value in state.items()}
    return [snapshot(value) for value in state] if isinstance(state, list) else state


def restore(state: State, before: State) -> None:
    """Put a state, in place, back to a snapshot of it."""
    state.clear()
    state.update(snapshot(before))


def rows_of(states: Sequence[State], which: Sequence[int]) -> State:
    """A state whose row b is that of `states[which[b]]`: all are one state at different times, as `snapshot` kept it."""

    def of(parts: Sequence[Any]) -> Any:
        first = parts[0]
        if isinstance(first, dict):
            return {key: of([part[key] for part in parts]) for key in first}
        if isinstance(first, list):
            return [of(items) for items in zip(*parts, strict=True)]
        if not isinstance(first, Tensor) or all(part is first for part in parts):
            return first
        return torch.stack([part[row] for row, part in enumerate(parts)])

    only = set(which)
    return snapshot(states[only.pop()]) if len(only) == 1 else of([states[i] for i in which])


def nbytes(state: State) -> int:
    """Bytes of the tensors of a state's layers."""
    return sum(at(state["layers"], path).nbytes for path, _, _ in leaves(state["layers"]))


FAR = 2**31  # positions: more than any ring has


class Layout:
    """What is what in the states of a model, and how large they are.

    Attributes:
        text, source: path -> the dimension of a tensor that counts positions of the text, or of the source. All other tensors
            have a constant size. constant: whether there are any. rings: path -> the columns of a tensor of the text that is a
            ring. kept: positions of a text, the newest, that all tensors hold; None = they hold all.
        row, column, memory: bytes of a row without positions, of a position of the text outside rings, of a position of the
            source. The last, and what a source adds to a row of constant size, are known once `learn` has seen a source.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        empty, one, far = (model.init_state(1, length, dtype, torch.device("meta")) for length in (0, 1, FAR))
        known = {path for path, _, _ in leaves(empty["layers"])}
        axes: dict[Path, int] = {}
        for i, parts in enumerate(model.stack.state_axes() if hasattr(model, "stack") else ()):
            for j, names in enumerate(parts):
                axes |= {(i, j, name): axis for name, axis in names.items()}
        self.text = {path: axis for path, axis in axes.items() if path in known}
        self.source = {path: axis for path, axis in axes.items() if path not in known}
        self.constant = bool(known - set(self.text))
        sizes = {path: at(far["layers"], path).shape[axis] for path, axis in self.text.items()}
        self.rings = {path: size for path, size in sizes.items() if size < FAR}
        self.kept = min(self.rings.values(), default=None)
        self._columns: Counter[int] = Counter()  # bytes of a column of all rings of a size
        for path, size in self.rings.items():
            self._columns[size] += at(one["layers"], path).nbytes
        self.row = nbytes(empty)
        self.column, self.memory = nbytes(one) - self.row - self._columns.total(), 0

    def learn(self, state: State) -> None:
        """See how large a source is, from a state without text that has read one."""
        rows, length = state["memory_doc"].shape
        sizes = {path: at(state["layers"], path).nbytes // rows for path, _, _ in leaves(state["layers"])}
        self.memory = sum(size for path, size in sizes.items() if path in self.source) // length
        self.row = sum(size for path, size in sizes.items() if path not in self.source and path not in self.text)

    def columns(self, path: Path, positions: int) -> int:
        """Columns that so many positions of the text take in a tensor."""
        return min(positions, self.rings.get(path, positions))

    def nbytes(self, rows: int, columns: int, source: int = 0) -> int:
        """Bytes of a state with so many rows, positions, and positions of the source."""
        rings = sum(min(columns, size) * each for size, each in self._columns.items())
        return rows * (self.row + columns * self.column + rings + source * self.memory)


@dataclass(frozen=True)
class Held:
    """The tensors of a state: those that grow with the text or come from a source, and those of constant size.

    Attributes:
        holders: what holds each of the latter, and its key there.
    """

    growing: list[Tensor]
    constant: list[Tensor]
    holders: list[tuple[Any, Any]]

    @classmethod
    def of(cls, layers: Any, layout: Layout) -> Held:
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

    def places(self) -> list[int]:
        """Where the growing ones lie."""
        return [t.data_ptr() for t in self.growing]

    def now(self) -> list[Tensor]:
        """What stands in the place of the tensors of constant size."""
        return [holder[key] for holder, key in self.holders]

    def put(self, tensors: list[Tensor]) -> None:
        """Put others there."""
        for (holder, key), tensor in zip(self.holders, tensors, strict=True):
            holder[key] = tensor
