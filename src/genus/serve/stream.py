"""Answers that come piece by piece (server-sent events), and what happens when the client goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from genus.serve.errors import Refused

BEAT = 15.0  # seconds of silence after which a comment is sent, so that proxies keep the connection
GONE = 499  # the client closed the request, as nginx has it; nobody reads this answer
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Result = TypeVar("Result")


class Streamed(StreamingResponse):
    """Server-sent events. What `stack` holds (the model, its slots) is let go when the last is sent, or nobody listens."""

    def __init__(self, events: AsyncIterator[bytes], stack: AsyncExitStack) -> None:
        super().__init__(_told(events), media_type="text/event-stream", headers=HEADERS)
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.stack.aclose()


def event(value: Any) -> bytes:
    """One event that holds JSON."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n\n"


COMMENT = b": still here\n\n"
DONE = b"data: [DONE]\n\n"


async def _told(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events; an error comes as the last of them, since the status has been sent."""
    try:
        async for each in events:
            yield each
    except Refused as error:
        yield event(error.body)
    yield DONE


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result], answer: Callable[[Result], Response]) -> Response:
    """`answer` of the result of `work`, which is stopped as soon as the client closes the connection."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return answer(working.result()) if working.done() else Response(status_code=GONE)
    finally:
        for task in (working, leaving):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.gather(working, leaving)


async def _left(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
