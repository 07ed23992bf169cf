"""What every address of the server works with: settings, models, counters, and the way of one writing request through them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse

from genus.serve.asked import Writing
from genus.serve.errors import Refused
from genus.serve.metrics import Metrics
from genus.serve.models import Registry
from genus.serve.served import Served
from genus.serve.settings import Settings
from genus.serve.stream import unless_gone
from genus.serve.worker import Answer
from genus.serve.writing import Text

if TYPE_CHECKING:
    from genus.generate.scheduler import Event
    from genus.generate.sequence import Request


@dataclass
class Service:
    """One server."""

    settings: Settings
    registry: Registry
    metrics: Metrics = field(default_factory=Metrics)

    @asynccontextmanager
    async def model(self, name: str, *abilities: str) -> AsyncIterator[Served]:
        """A model that has one of these abilities, loaded.

        Raises:
            Refused: there is none of this name, or it can do none of it.
        """
        self.registry.entry(name).must(*abilities)
        async with self.registry.use(name) as served:
            yield served

    async def reply(
        self, http: HttpRequest, name: str, ability: str, work: Callable[[Served], Awaitable[dict[str, Any]]]
    ) -> Response:
        """What a model's `work` gives, as JSON; it ends when the client goes away."""

        async def done() -> dict[str, Any]:
            async with self.model(name, ability) as served:
                return await work(served)

        return await unless_gone(http, done(), JSONResponse)

    async def write(
        self, stack: AsyncExitStack, http: HttpRequest, asked: Writing, served: Served, requests: Sequence[Request]
    ) -> Writer:
        """Begin to write; leaving the stack ends it, finished or not."""
        begin = http.scope.get("genus.begin", time.monotonic())
        owner = asked.owner or (http.client.host if http.client else "")
        deadline = begin + self.settings.limits.seconds
        answer = await served.worker.ask(requests, owner=owner, deadline=deadline)
        writer = Writer(self, served, answer, begin)
        stack.callback(writer.close)
        return writer


@dataclass
class Writer:
    """The texts of one request while they are written.

    Attributes:
        texts: one for each request to the engine, in order. tokens: written so far, over all texts.
    """

    service: Service
    served: Served
    answer: Answer
    begin: float
    texts: list[Text] = field(default_factory=list)
    tokens: int = 0
    _last: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts = [Text() for _ in self.answer.tickets]
        self._last = [0.0] * len(self.texts)

    async def pieces(self, beat: float | None = None) -> AsyncIterator[tuple[int, Event] | None]:
        """Number and event of each piece, already added to `texts`; None after every `beat` seconds without one."""
        while self.answer.open:
            arrived = await self.answer.next(beat)
            if arrived is not None:
                self._count(*arrived)
                self.texts[arrived[0]].take(arrived[1])
                if arrived[1].finish == "deadline" and not self.texts[arrived[0]].choices:
                    seconds = self.service.settings.limits.seconds
                    raise Refused(504, f"nothing could be written within {seconds:g} seconds; ask again later", code="timeout")
            yield arrived

    async def whole(self) -> list[Text]:
        """All texts, when they have ended."""
        async for _ in self.pieces():
            pass
        return self.texts

    def close(self) -> None:
        """Count what was done; texts that nobody waits for any more are given up."""
        model = self.served.entry.name
        self.answer.close()
        if self.answer.cancelled:
            self.service.metrics.count("cancelled", model=model)
        self.service.metrics.count("tokens", self.tokens, model=model, kind="written")
        self.service.metrics.count("tokens", sum(len(t.request.ids) for t in self.answer.tickets), model=model, kind="read")

    def _count(self, number: int, event: Event) -> None:
        self.tokens += len(event.choices)
        if not event.choices:
            return
        now, model = time.monotonic(), self.served.entry.name
        if self._last[number]:
            self.service.metrics.time("between_tokens", (now - self._last[number]) / len(event.choices), model=model)
        else:
            self.service.metrics.time("first_token", now - self.begin, model=model)
        self._last[number] = now
