"""A request for texts, and its answer: in one piece, or piece by piece."""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from genus.serve import writing
from genus.serve.asked import Writing
from genus.serve.served import Served
from genus.serve.service import Service, Writer
from genus.serve.stream import BEAT, COMMENT, Streamed, event, unless_gone
from genus.serve.writing import Prompt

if TYPE_CHECKING:
    from genus.generate.scheduler import Event


class Reply(ABC):
    """One request.

    Attributes:
        abilities: of which the model must have one. prompts: what it reads.

    Raises:
        Refused: it asks for more than the model or the server can do.
    """

    mark: ClassVar[str]  # what its id begins with
    abilities: ClassVar[tuple[str, ...]]
    prompts: Sequence[Prompt]

    def __init__(self, service: Service, served: Served, asked: Any) -> None:
        self.service, self.served, self.asked = service, served, asked
        self.id, self.created = f"{self.mark}-{secrets.token_hex(12)}", int(time.time())

    @classmethod
    async def to(cls, service: Service, asked: Writing, http: Request) -> Response:
        """What is sent back for a request."""
        async with AsyncExitStack() as stack:
            served = await stack.enter_async_context(service.model(asked.model, *cls.abilities))
            reply = await asyncio.to_thread(cls, service, served, asked)  # a long prompt takes a while
            return await reply.answer(stack, http)

    async def answer(self, stack: AsyncExitStack, http: Request) -> Response:
        """What is sent back; leaving the stack ends the writing."""
        writer = await self.begin(stack, http)
        if self.asked.stream:
            return Streamed(self.events(writer), stack.pop_all())
        return await unless_gone(http, self.whole(writer), JSONResponse)

    @abstractmethod
    async def begin(self, stack: AsyncExitStack, http: Request) -> Writer:
        """Have the texts written."""

    @abstractmethod
    async def whole(self, writer: Writer) -> dict[str, Any]:
        """The answer, in one piece."""

    async def events(self, writer: Writer) -> AsyncIterator[bytes]:
        """The answer, piece by piece."""
        for each in self.opening(writer):
            yield event(each)
        async for arrived in writer.pieces(BEAT):
            if arrived is None:
                yield COMMENT
                continue
            for each in self.chunks(writer, *arrived):
                yield event(each)
        if self.asked.stream_options and self.asked.stream_options.include_usage:
            yield event(self.body([], True) | self.usage(writer.tokens))

    def opening(self, writer: Writer) -> Iterator[dict[str, Any]]:
        """What is sent before the first piece."""
        return iter(())

    @abstractmethod
    def chunks(self, writer: Writer, number: int, piece: Event) -> Iterator[dict[str, Any]]:
        """What is sent for a piece of the text of this number."""

    @abstractmethod
    def body(self, choices: list[dict[str, Any]], streamed: bool = False) -> dict[str, Any]:
        """An answer, or a piece of one, with these choices."""

    def usage(self, written: int) -> dict[str, Any]:
        """The field that counts tokens."""
        return {"usage": writing.usage(self.prompts, written)}
