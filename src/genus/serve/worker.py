"""Worker: the one thread in which a model computes, and what comes out of it for those who wait.

The thread steps the model's Scheduler as long as there is something to write, and between two steps does what was put into its
inbox: take requests, cancel some, compute something else with the model. The event loop never computes and the model's thread
never waits for a client, so a slow reader stalls nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from genus.serve.errors import Refused, busy, invalid

if TYPE_CHECKING:
    from genus.generate.scheduler import Event, Scheduler, Ticket
    from genus.generate.sequence import Request

AT_ONCE = 16  # rows that are read before others have their turn

Result = TypeVar("Result")
Row = TypeVar("Row")
log = logging.getLogger("genus.serve")


@dataclass
class _Job:
    """Something to do between two steps. `long`: a step comes before the next job, so that texts go on meanwhile."""

    work: Callable[[], None]
    long: bool = False


@dataclass
class Answer:
    """What is being written for requests that were taken together. `next` gives it piece by piece; `close` ends it.

    Attributes:
        tickets: one for each request, in order. open: how many of them are still being written.
        cancelled: whether it was closed before its end.
    """

    worker: Worker
    loop: asyncio.AbstractEventLoop
    tickets: list[Ticket] = field(default_factory=list)
    open: int = 0
    cancelled: bool = False
    _arrived: asyncio.Queue[tuple[int, Event] | Exception] = field(default_factory=asyncio.Queue)

    async def next(self, seconds: float | None = None) -> tuple[int, Event] | None:
        """The number of a request and its next event; None when nothing comes for so many seconds.

        Raises:
            Refused: the model failed, or the server stops.
        """
        try:
            async with asyncio.timeout(seconds):
                arrived = await self._arrived.get()
        except TimeoutError:
            return None
        if isinstance(arrived, Exception):
            self.open = 0
            raise arrived
        if arrived[1].finish is not None:
            self.open -= 1
        return arrived

    def close(self) -> None:
        """Nobody listens any more: whatever is unfinished gives up its slot before the next token."""
        if self.open > 0:
            self.open, self.cancelled = 0, True
            self.worker.cancel(self)


class Worker:
    """A model's thread.

    Args:
        name: of the model. scheduler: makes the Scheduler, in the thread; None for a model that writes no text.
        waiting: how many computations (`call`) may wait at once.
    """

    def __init__(self, name: str, scheduler: Callable[[], Scheduler] | None = None, waiting: int = 256) -> None:
        self.name = name
        self._make = scheduler
        self._scheduler: Scheduler | None = None
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._answers: dict[int, tuple[Answer, int]] = {}  # by the ticket's identity
        self._calls, self._waiting = 0, waiting
        self._closed = False
        self._thread = Thread(target=self._run, name=f"genus-{name}", daemon=True)
        self._thread.start()

    # ---- from the event loop

    async def ask(self, requests: Sequence[Request], *, owner: str = "", deadline: float | None = None) -> Answer:
        """Have texts written, all or none of them.

        Args:
            owner: who asks; owners take turns. deadline: of `time.monotonic()`; what was written by then is the answer.

        Raises:
            Refused: too many are waiting, a request can never fit, or the server stops.
        """
        answer = Answer(self, asyncio.get_running_loop(), open=len(requests))
        try:
            await self._do(lambda: self._submit(answer, requests, owner, deadline))
        except asyncio.CancelledError:
            answer.close()
            raise
        return answer

    async def call(self, work: Callable[[], Result]) -> Result:
        """Compute something with the model between two steps.

        Raises:
            Refused: too many computations are waiting. What `work` raises comes through.
        """
        if self._calls >= self._waiting:
            raise busy(f"{self._calls} requests already wait for {self.name}")
        self._calls += 1
        try:
            return await self._do(work, long=True)
        finally:
            self._calls -= 1

    async def each(self, rows: Sequence[Row], work: Callable[[Sequence[Row]], Iterable[Result]]) -> list[Result]:
        """`work` on all rows, some at a time, so that others have their turn between. Raises as `call`."""
        found: list[Result] = []
        for start in range(0, len(rows), AT_ONCE):
            found.extend(await self.call(partial(work, rows[start : start + AT_ONCE])))
        return found

    async def stats(self) -> Any:
        """The scheduler's `Stats`; None for a model that writes no text."""
        return await self._do(lambda: None if self._scheduler is None else self._scheduler.stats)

    def cancel(self, answer: Answer) -> None:
        """Take an answer's requests out of the model."""
        self._inbox.put(_Job(lambda: self._drop(answer)))

    def close(self) -> None:
        """Stop after the present step; answers that are open end with an error. Waits for the thread."""
        self._closed = True
        self._inbox.put(None)
        self._thread.join()

    async def _do(self, work: Callable[[], Result], long: bool = False) -> Result:
        """Run `work` in the thread and wait for its result."""
        if self._closed:
            raise stopping()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(result: Any, error: Exception | None) -> None:
            if not future.done():
                future.set_result(result) if error is None else future.set_exception(error)

        def job() -> None:
            if future.cancelled():
                return
            try:
                result, error = work(), None
            except Exception as raised:
                result, error = None, raised
            _tell(loop, settle, result, error)

        self._inbox.put(_Job(job, long))
        return await future

    # ---- in the thread

    def _run(self) -> None:
        while True:
            writing = self._scheduler is not None and self._scheduler.busy
            for _ in range(max(self._inbox.qsize(), not writing)):
                job = self._inbox.get()
                if job is None:
                    self._end(stopping())
                    return
                job.work()
                if job.long:
                    break
            if self._scheduler is not None and self._scheduler.busy:
                self._step(self._scheduler)

    def _submit(self, answer: Answer, requests: Sequence[Request], owner: str, deadline: float | None) -> None:
        from genus.generate.scheduler import Full

        if answer.cancelled:
            return
        if self._scheduler is None:
            assert self._make is not None, "a model that writes no text was asked for one"
            self._scheduler = self._make()
        try:
            for request in requests:
                answer.tickets.append(self._scheduler.submit(request, owner=owner, deadline=deadline))
        except Exception as error:
            for ticket in answer.tickets:
                self._scheduler.cancel(ticket)
            if isinstance(error, Full):
                raise busy(f"too many requests wait for {self.name}") from error
            if isinstance(error, ValueError):
                raise invalid(str(error)) from error
            raise
        for number, ticket in enumerate(answer.tickets):
            self._answers[id(ticket)] = (answer, number)

    def _drop(self, answer: Answer) -> None:
        for ticket in answer.tickets:
            if self._answers.pop(id(ticket), None) and self._scheduler is not None:
                self._scheduler.cancel(ticket)

    def _step(self, scheduler: Scheduler) -> None:
        try:
            events = scheduler.step()
        except Exception as error:  # a fault of ours or of the weights: those who wait are told, and the model begins afresh
            log.exception("%s failed while writing", self.name)
            self._scheduler = None
            reason = (
                str(error) if isinstance(error, ValueError) else "the model failed while writing; the server's log says where"
            )
            self._end(Refused(500, reason, code="internal_error"))
            return
        told: dict[asyncio.AbstractEventLoop, list[tuple[Answer, int, Event]]] = {}
        for event in events:
            found = self._answers.get(id(event.ticket))
            if found is None:
                continue
            if event.finish is not None:
                del self._answers[id(event.ticket)]
            told.setdefault(found[0].loop, []).append((*found, event))
        for loop, each in told.items():
            _tell(loop, _deliver, each)

    def _end(self, error: Refused) -> None:
        """End all answers with an error."""
        answers = {id(answer): answer for answer, _ in self._answers.values()}.values()
        self._answers.clear()
        for answer in answers:
            _tell(answer.loop, answer._arrived.put_nowait, error)


def stopping() -> Refused:
    """The error of a request that comes while the server, or its model, goes away."""
    return Refused(503, "the server is stopping; try again later", code="server_stopping", headers={"Retry-After": "5"})


def until(seconds: float) -> float:
    """The deadline in so many seconds."""
    return time.monotonic() + seconds


def _deliver(events: list[tuple[Answer, int, Event]]) -> None:
    for answer, number, event in events:
        answer._arrived.put_nowait((number, event))


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., object], *arguments: Any) -> None:
    """Call `what` in the event loop; a loop that is gone has nobody to tell."""
    try:
        loop.call_soon_threadsafe(what, *arguments)
    except RuntimeError:
        log.debug("an event loop ended while a model worked for it")
