"""The requests that wait: every owner has a queue, and the owners take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from genus.generate.sequence import Request, Sequence


@dataclass(eq=False)
class Ticket:
    """A request in a scheduler.

    Attributes:
        number: counted from 0 in the order of submission. sequence: how far it is. owner: whose it is, for taking turns.
        deadline: `time.monotonic()` at which it ends, however far it is. columns, source: positions of a state that it needs, of
            the text and of the source.
    """

    number: int
    request: Request
    sequence: Sequence
    owner: str = ""
    deadline: float | None = None
    columns: int = 0
    source: int = 0


class Waiting:
    """Tickets in the order in which they are served: the oldest of every owner in turn."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        for queue in self._owners.values():
            yield from queue

    def add(self, ticket: Ticket) -> None:
        self._owners.setdefault(ticket.owner, deque()).append(ticket)
        self._count += 1

    @property
    def next(self) -> Ticket | None:
        """The ticket whose turn it is."""
        return next(iter(self._owners.values()))[0] if self._owners else None

    def take(self) -> Ticket:
        """Take the next ticket out; its owner goes to the end."""
        owner, queue = self._owners.popitem(last=False)
        ticket = queue.popleft()
        if queue:
            self._owners[owner] = queue
        self._count -= 1
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out, wherever it stands."""
        queue = self._owners[ticket.owner]
        queue.remove(ticket)
        if not queue:
            del self._owners[ticket.owner]
        self._count -= 1
