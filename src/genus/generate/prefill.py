"""Prefill: prompts on their way to the running rows, read some tokens at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genus.generate.prefix import Prefixes
from genus.generate.slots import Slots

if TYPE_CHECKING:
    from genus.generate.engine import Engine

Prompt = tuple[tuple[int, ...], tuple[int, ...] | None]  # ids, and the source of an encoder-decoder


class Prefill:
    """Some prompts that are read together, in a state of their own.

    Args:
        prefixes: beginnings that were read before, and where new ones are kept; None = read everything.

    Attributes:
        prompts: the rows. slots: their states.
    """

    def __init__(self, engine: Engine, prompts: Sequence[Prompt], prefixes: Prefixes | None) -> None:
        self.prompts = list(prompts)
        self._engine, self._prefixes = engine, prefixes
        self._found: list[Tensor | None] = [None] * len(self.prompts)
        longest = max(len(ids) for ids, _ in self.prompts)
        self.slots = Slots(engine.layout, len(self.prompts), longest)
        order: list[int] = []
        fresh = []
        for row, (ids, source) in enumerate(self.prompts):
            state = None if prefixes is None else prefixes.find(ids, source)
            if state is None:
                fresh.append(row)
            else:
                self.slots.add(state, [0], longest)
                order.append(row)
        if fresh:
            sources = [source for row in fresh if (source := self.prompts[row][1]) is not None]
            state = engine.blank(len(fresh), sources=sources or None)
            self.slots.add(state, range(len(fresh)), longest)
            order += fresh
        self.prompts = [self.prompts[row] for row in order]
        self.done: list[int] = self.slots.state["start"].tolist()
        self.known = sum(self.done)  # tokens that need not be read
        if prefixes is not None:
            for row, (_, source) in enumerate(self.prompts):
                if source is not None:
                    prefixes.add((), source, self.slots.state, row)

    @property
    def left(self) -> int:
        """Tokens still to be read."""
        return sum(len(ids) for ids, _ in self.prompts) - sum(self.done)

    @property
    def logits(self) -> Tensor:
        """(rows, V) of what follows each prompt, when none is left."""
        return torch.stack([row for row in self._found if row is not None])

    def advance(self, most: int) -> int:
        """Read about so many tokens. Returns how many it were."""
        before = self.left
        while self.left and before - self.left < most:
            waiting = sum(done < len(ids) for done, (ids, _) in zip(self.done, self.prompts))
            self._read(max(1, (most - before + self.left) // waiting))
        return before - self.left

    def _read(self, width: int) -> None:
        """Read up to so many tokens of every prompt, and no further than what is to be kept still is there."""
        parts = []
        for done, (ids, _) in zip(self.done, self.prompts):
            stop = done + width
            if self._prefixes is not None:
                stop = self._prefixes.until(done, stop)
            parts.append(ids[done:stop])
        logits = self._engine.read(parts, self.slots.state)
        for row, part in enumerate(parts):
            before, self.done[row] = self.done[row], self.done[row] + len(part)
            if part and self.done[row] == len(self.prompts[row][0]):
                self._found[row] = logits[row].clone()  # the next call may write there
            self._keep(row, before)

    def _keep(self, row: int, before: int) -> None:
        if self._prefixes is not None:
            ids, source = self.prompts[row]
            self._prefixes.keep(ids[: self.done[row]], source, self.slots.state, row, before)
