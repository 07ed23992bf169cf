"""Scheduler: continuous batching. Requests come and go at any time; in each step every running row gets a token.

A request waits for its turn, is read (`Prefill`: in chunks, so that a long prompt stalls nobody), and joins the running rows
(`Slots`), which it leaves as soon as it ends. What it says does not depend on its neighbours.

A model with a table of positions can see only so many tokens. A sequence that outgrows it goes on with the last half of them,
which are read anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from genus.generate.decoder import Decoder, Plain
from genus.generate.prefill import Prefill, Prompt
from genus.generate.prefix import Prefixes
from genus.generate.sampling import Choice, pick
from genus.generate.sequence import Request, Sequence
from genus.generate.slots import Slots
from genus.generate.waiting import Ticket, Waiting

if TYPE_CHECKING:
    from genus.generate.engine import Engine

AT_ONCE = 4  # prompts, or groups of short ones, that are read in turns


class Full(Exception):
    """No more requests can wait; try again later."""


@dataclass(frozen=True)
class Event:
    """What a step did for a request.

    Attributes:
        piece: text that has become certain. choices: its new tokens. finish: None while it goes on; then "end", "stop", "length",
            "cancelled" or "deadline".
    """

    ticket: Ticket
    piece: str
    choices: tuple[Choice, ...]
    finish: str | None


@dataclass(frozen=True)
class Stats:
    """What a scheduler does, and has done.

    Attributes:
        running, reading, waiting: requests that get tokens, whose prompts are read, that wait. state_bytes, prefix_bytes: held
            for them, and by the cache of prefixes. The rest are totals: tokens of prompts that were read, that need not be read
            because a prefix was known, and new ones; requests by how they ended.
    """

    running: int
    reading: int
    waiting: int
    state_bytes: int
    prefix_bytes: int
    prompt_tokens: int
    prefix_hits: int
    new_tokens: int
    finished: int
    cancelled: int
    expired: int


@dataclass(eq=False)
class _Reading:
    """A prefill and who waits for its prompts: requests with the same prompt share a row."""

    prefill: Prefill
    tickets: dict[Prompt, list[Ticket]]

    def __iter__(self) -> Iterator[Ticket]:
        for tickets in self.tickets.values():
            yield from tickets


class Scheduler:
    """Serves requests with one model. To be used by one thread at a time.

    Args:
        engine: the model. slots: rows that run together, at most. room: tokens of a request, prompt and new ones, at most; None =
            as many as the model and the memory allow. memory: bytes of all states, at most; a request waits until it fits.
        chunk: prompt tokens that are read in a step, about. waiting: requests that may wait. prefixes: bytes of the cache of
            prefixes; 0 = none. decoder: how rows get their tokens; None = one token in every step.
        clock: what deadlines are compared with.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        slots: int = 16,
        room: int | None = None,
        memory: float | None = None,
        chunk: int = 256,
        waiting: int = 256,
        prefixes: float = 0.0,
        decoder: Decoder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("slots", slots), ("chunk", chunk), ("waiting", waiting)):
            if value < 1:
                raise ValueError(f"{name} {value} must be at least 1")
        self.engine = engine
        self._most, self._room, self._memory, self._chunk, self._places = slots, room, memory, chunk, waiting
        self._prefixes = Prefixes(engine.layout, prefixes) if prefixes else None
        self._decoder: Decoder = Plain() if decoder is None else decoder
        self._clock = clock
        self._slots = Slots(engine.layout, slots, engine.limit, memory)
        self._running: list[Ticket] = []  # as the rows of the slots
        self._reading: deque[_Reading] = deque()
        self._again: deque[Ticket] = deque()  # have outgrown the positions, and are read anew
        self._waiting = Waiting()
        self._closed: list[Event] = []  # to be told by the next step
        self._submitted = 0
        self._totals = dict.fromkeys(("prompt_tokens", "prefix_hits", "new_tokens", "finished", "cancelled", "expired"), 0)

    def submit(self, request: Request, *, owner: str = "", deadline: float | None = None) -> Ticket:
        """Let a request wait for its turn.

        Args:
            owner: owners take turns, however many requests each has. deadline: `time.monotonic()` at which the text ends.

        Raises:
            Full: too many wait. ValueError: the request can never be served.
        """
        self.engine.check([request])
        columns = self._needs(request)
        if len(self._waiting) >= self._places:
            raise Full(f"{len(self._waiting)} requests wait already")
        sequence = Sequence(request, self.engine.tokenizer, self.engine.ends)
        ticket = Ticket(self._submitted, request, sequence, owner, deadline, columns, len(request.source or ()))
        self._submitted += 1
        self._waiting.add(ticket)
        return ticket

    @torch.inference_mode()
    def cancel(self, ticket: Ticket) -> None:
        """End a request and free what it holds. The next step tells of it. Nothing happens to one that has ended."""
        if ticket.sequence.finish is None:
            self._close(ticket, "cancelled")

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """A token for every running row, and a chunk of the prompts that wait; what came of it.

        Raises:
            ValueError: the model gave NaN.
        """
        now = self._clock()
        for ticket in [t for t in self._all() if t.deadline is not None and t.deadline <= now]:
            self._close(ticket, "deadline")
        events, self._closed = self._closed, []
        return events + self._decode() + self._read()

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._running or self._reading or self._again or self._waiting or self._closed)

    @property
    def stats(self) -> Stats:
        reading = sum(len(list(r)) for r in self._reading) + len(self._again)
        held = self._slots.nbytes + sum(r.prefill.slots.nbytes for r in self._reading)
        kept = 0 if self._prefixes is None else self._prefixes.nbytes
        return Stats(len(self._running), reading, len(self._waiting), held, kept, **self._totals)

    # ---- running rows

    def _decode(self) -> list[Event]:
        """New tokens for every running row."""
        limit = self.engine.limit
        for row in reversed(range(len(self._running))):
            sequence = self._running[row].sequence
            if limit is not None and len(sequence.ids) - sequence.first > limit:
                sequence.first = len(sequence.ids) - max(1, limit // 2)
                self._again.append(self._leave(row))
        if not self._running:
            return []
        sequences = [t.sequence for t in self._running]
        before = [_held(s) for s in sequences]
        found = self._decoder.step(self.engine, self._slots.state, sequences)
        events = [self._push(ticket, choices) for ticket, choices in zip(self._running, found, strict=True)]
        if self._prefixes is not None:
            for row, s in enumerate(sequences):
                if s.finish is None and _held(s) // self._prefixes.block > before[row] // self._prefixes.block:
                    self._prefixes.keep(s.visible[:-1], s.request.source, self._slots.state, row, before[row])
        for row in reversed(range(len(self._running))):
            if self._running[row].sequence.finish is not None:
                self._leave(row)
        return events

    def _push(self, ticket: Ticket, choices: list[Choice]) -> Event:
        """Add tokens to a sequence, up to its end."""
        sequence, pieces, count = ticket.sequence, "", 0
        for choice in choices:
            if sequence.finish is not None:
                break
            pieces += sequence.push(choice)
            count += 1
        self._totals["new_tokens"] += count
        self._totals["finished"] += sequence.finish is not None
        return Event(ticket, pieces, tuple(choices[:count]), sequence.finish)

    def _leave(self, row: int) -> Ticket:
        """Free a running row; the last one takes its place."""
        ticket, last = self._running[row], self._running.pop()
        if ticket is not last:
            self._running[row] = last
        self._slots.remove(row)
        self._decoder.leave(row)
        return ticket

    def _close(self, ticket: Ticket, reason: str) -> None:
        """End a request from outside, wherever it is."""
        if ticket in self._running:
            self._leave(self._running.index(ticket))
        elif ticket in self._again:
            self._again.remove(ticket)
        elif ticket in list(self._waiting):
            self._waiting.remove(ticket)
        for reading in list(self._reading):
            for tickets in reading.tickets.values():
                if ticket in tickets:
                    tickets.remove(ticket)
            if not any(reading.tickets.values()):
                self._reading.remove(reading)
        self._closed.append(Event(ticket, ticket.sequence.close(reason), (), reason))
        self._totals["cancelled" if reason == "cancelled" else "expired"] += 1

    # ---- prompts

    def _read(self) -> list[Event]:
        """Read about a chunk of the prompts whose turn it is; those that are read join the running rows."""
        events: list[Event] = []
        left = self._chunk
        while left > 0:
            self._admit(left)
            if not self._reading:
                break
            reading = self._reading.popleft()
            read = reading.prefill.advance(left)
            self._totals["prompt_tokens"] += read
            left -= max(1, read)
            if reading.prefill.left:
                self._reading.append(reading)
            else:
                events += self._seat(reading)
        return events

    def _admit(self, most: int) -> None:
        """Let the next requests be read, as far as there are slots and memory; together where that is at most `most` tokens."""
        tickets: dict[Prompt, list[Ticket]] = {}
        widest = 0
        while len(self._reading) < AT_ONCE:
            ticket = self._again[0] if self._again else self._waiting.next
            if ticket is None or not self._fits(ticket, tickets):
                break
            prompt = tuple(ticket.sequence.visible), ticket.request.source
            width = len(prompt[0]) + ticket.source - (0 if self._prefixes is None else self._prefixes.length(*prompt))
            rows = len(tickets) + (prompt not in tickets)
            if tickets and rows * max(width, widest) > most:
                break
            widest = max(width, widest)
            tickets.setdefault(prompt, []).append(self._again.popleft() if self._again else self._waiting.take())
        if tickets:
            self._make_room(max(t.columns for own in tickets.values() for t in own), len(tickets))
            prefill = Prefill(self.engine, list(tickets), self._prefixes)
            self._totals["prefix_hits"] += prefill.known
            self._reading.append(_Reading(prefill, tickets))

    def _seat(self, reading: _Reading) -> list[Event]:
        """Choose the first token after prompts that have been read, and let them join the running rows."""
        rows = [(row, t) for row, prompt in enumerate(reading.prefill.prompts) for t in reading.tickets[prompt]]
        logits = reading.prefill.logits[[row for row, _ in rows]]
        found = pick(logits, [t.sequence for _, t in rows])
        events = [self._push(ticket, [choice]) for (_, ticket), choice in zip(rows, found, strict=True)]
        rows = [(row, t) for row, t in rows if t.sequence.finish is None]
        if rows:
            new = [t for _, t in rows]
            columns = max(t.columns for t in new)
            self._slots.add(reading.prefill.slots.state, [row for row, _ in rows], columns)
            self._running += new
            self._decoder.join([t.sequence for t in new])
        return events

    # ---- room

    def _needs(self, request: Request) -> int:
        """Positions that a request may come to have in a state.

        Raises:
            ValueError: more than there can be.
        """
        asked = len(request.ids) + request.max_tokens
        if self._room is not None and asked > self._room:
            raise ValueError(
                f"a prompt of {len(request.ids)} tokens and {request.max_tokens} new ones need room for {asked}, and there is "
                f"room for {self._room}; shorten the prompt, or ask for fewer tokens"
            )
        columns = asked + self._decoder.spare
        columns = columns if self.engine.limit is None else min(columns, self.engine.limit)
        bytes_ = 2 * self.engine.layout.nbytes(1, columns, len(request.source or ()))
        if self._memory is not None and bytes_ > self._memory:
            raise ValueError(
                f"the state of this request needs {bytes_:,} bytes, and {self._memory:,.0f} are set aside; "
                "ask for fewer tokens, or give the states more memory"
            )
        return columns

    def _fits(self, ticket: Ticket, beside: dict[Prompt, list[Ticket]]) -> bool:
        """Whether there is a slot and memory for one more request."""
        held = [*self._running, *(t for r in self._reading for t in r), *(t for tickets in beside.values() for t in tickets)]
        if len(held) + len(self._again) + (ticket not in self._again) > self._most:
            return False
        if self._memory is None or not held:
            return True
        held += [ticket, *(t for t in self._again if t is not ticket)]
        columns, source = max(t.columns for t in held), max(t.source for t in held)
        # a prompt that is read has a state of its own until it joins the others
        return self.engine.layout.nbytes(2 * len(held) - len(self._running), columns, source) <= self._memory

    def _make_room(self, columns: int, rows: int) -> None:
        """Give back reserves where prompts that are to be read would not fit beside them."""
        size, running = self.engine.layout.nbytes, self._running
        later = size(len(running) + 2 * rows, max(columns, self._slots.columns))
        if self._memory is not None and max(later, self.stats.state_bytes + size(rows, columns)) > self._memory:
            self._slots.trim(max((t.columns for t in running), default=0))

    def _all(self) -> Iterator[Ticket]:
        yield from self._running
        for reading in self._reading:
            yield from reading
        yield from self._again
        yield from self._waiting


def _held(sequence: Sequence) -> int:
    """Tokens of a running sequence that the state has read: all that the model sees but the last."""
    return len(sequence.ids) - sequence.first - 1
