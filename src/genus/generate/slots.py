"""Slots: the states of sequences that run together, while sequences come and go."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genus.generate.state import MEMORY, Layout, Path, State, at, leaves, snapshot
from genus.parts.ctx import PADDING

STEP = 128  # positions by which the room grows at least, so that slightly longer requests do not move everything


class Slots:
    """One state whose rows stand for sequences. The rows in use are the first ones, without gaps.

    Tensors that grow are kept with more room than is used, and `state` holds views of their first rows; so a row joins by being
    written, and leaves by the last row taking its place. Nothing else moves, but when the room must become larger.

    Args:
        most: rows at most. limit: positions at most. memory: bytes at most; what is asked for must fit, and reserves are made
            up to half of it.

    Attributes:
        rows: rows in use. state: what the model is given; its `start` is a tensor (rows,).
    """

    def __init__(self, layout: Layout, most: int, limit: int | None = None, memory: float | None = None) -> None:
        self.rows = 0
        self.state: State = {}
        self._layout, self._most, self._limit, self._memory = layout, most, limit, memory
        self._store: dict[Path, Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that are held, reserves included."""
        held = sum(t.nbytes for t in self._store.values())
        if self.rows:
            layers = self.state["layers"]
            held += sum(at(layers, path).nbytes for path, _, _ in leaves(layers) if path not in self._store)
        return held

    @property
    def columns(self) -> int:
        """Positions that there is room for."""
        return max((held.shape[self._axis(path)] for path, held in self._store.items() if path in self._layout.text), default=0)

    def add(self, state: State, rows: Sequence[int], columns: int) -> None:
        """Copy some rows of a state behind those in use.

        Args:
            columns: positions that any of these rows will come to have.
        """
        index = torch.tensor(rows)
        sources = None if "memory_doc" not in state else (state["memory_doc"] != PADDING).sum(1).tolist()
        self._reserve(state, self.rows + len(rows), columns, 0 if sources is None else max(sources[row] for row in rows))
        lengths = state["start"].tolist()
        old, self.state = self.state, snapshot(state)
        for path, holder, key in leaves(self.state["layers"]):
            if path in self._store:
                self._write(path, holder[key], rows, lengths if path in self._layout.text else sources or lengths)
                holder[key] = self._store[path][: self.rows + len(rows)]
            else:
                holder[key] = self._join(at(old["layers"], path) if self.rows else None, holder[key], index)
        self.state["start"] = self._join(old["start"] if self.rows else None, state["start"], index)
        if sources is not None:
            self._write(MEMORY, state["memory_doc"], rows, sources)
            self.state["memory_doc"] = self._store[MEMORY][: self.rows + len(rows)]
        self.rows += len(rows)

    def remove(self, row: int) -> None:
        """Free a row; the last one takes its place."""
        last = self.rows - 1
        start = self.state["start"]
        length = int(start[last])
        for path, holder, key in leaves(self.state["layers"]):
            if path in self._layout.text and row != last:
                axis, columns = self._layout.text[path] - 1, self._layout.columns(path, length)
                holder[key][row].narrow(axis, 0, columns).copy_(holder[key][last].narrow(axis, 0, columns))
            elif row != last:
                holder[key][row] = holder[key][last]
            holder[key] = holder[key][:last]
        for name in ("start", "memory_doc"):
            if self.state.get(name) is not None:
                self.state[name][row] = self.state[name][last]
                self.state[name] = self.state[name][:last]
        self.rows = last
        if not last:
            self.state = {}

    def trim(self, columns: int) -> None:
        """Give back what is reserved beyond the rows in use, and beyond so many positions of each."""
        if not self.rows:
            self._store.clear()
            return
        for path, held in self._store.items():
            kept = held[: self.rows]
            axis = self._axis(path)
            fewer = min(columns, kept.shape[axis]) if path in self._layout.text else kept.shape[axis]
            self._store[path] = kept.narrow(axis, 0, fewer).clone()
        for path, holder, key in leaves(self.state["layers"]):
            holder[key] = self._store.get(path, holder[key])
        if MEMORY in self._store:
            self.state["memory_doc"] = self._store[MEMORY]

    def _join(self, old: Tensor | None, new: Tensor, index: Tensor) -> Tensor:
        chosen = new.index_select(0, index.to(new.device))
        return chosen if old is None else torch.cat([old, chosen])

    def _write(self, path: Path, new: Tensor, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Copy so many positions of some rows of a tensor to the store, behind the rows in use."""
        axis = self._axis(path) - 1
        for place, row in enumerate(rows, start=self.rows):
            slot = self._store[path][place]
            if path not in self._layout.text:
                slot.fill_(_filling(path))
            columns = self._layout.columns(path, lengths[row])
            slot.narrow(axis, 0, columns).copy_(new[row].narrow(axis, 0, columns))

    def _axis(self, path: Path) -> int:
        return 1 if path == MEMORY else self._layout.text.get(path) or self._layout.source[path]

    def _reserve(self, state: State, rows: int, columns: int, source: int) -> None:
        """Make room for so many rows, positions and positions of the source."""
        grown = -(-columns // STEP) * STEP
        grown = grown if self._limit is None else min(grown, max(columns, self._limit))
        wanted = min(self._most, max(rows, 2 * self.rows))
        if self._memory is not None and 2 * self._layout.nbytes(wanted, grown, source) > self._memory:
            wanted, grown = rows, columns
        paths = [path for path, _, _ in leaves(state["layers"]) if path in self._layout.text or path in self._layout.source]
        for path in paths + [MEMORY] * ("memory_doc" in state):
            like = state["memory_doc"] if path == MEMORY else at(state["layers"], path)
            places = [self._layout.columns(path, n) if path in self._layout.text else source for n in (columns, grown)]
            self._room(path, like, (rows, places[0]), (wanted, places[1]))

    def _room(self, path: Path, like: Tensor, needed: tuple[int, int], wanted: tuple[int, int]) -> None:
        axis, old = self._axis(path), self._store.get(path)
        if old is not None and old.shape[0] >= needed[0] and old.shape[axis] >= needed[1]:
            return
        shape = list(like.shape)
        shape[0], shape[axis] = wanted
        if old is not None:
            shape[axis] = max(shape[axis], old.shape[axis])
        new = like.new_full(shape, _filling(path))
        if old is not None:
            new[: self.rows].narrow(axis, 0, old.shape[axis]).copy_(old[: self.rows])
        self._store[path] = new


def _filling(path: Path) -> int:
    """What stands where a tensor holds nothing: finite, and of a source invisible."""
    return PADDING if path == MEMORY else 0
