"""What stands before the application: who may come in, how much they may send, and what browsers may do with the answers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genus.serve.errors import Refused
from genus.serve.metrics import Metrics
from genus.serve.settings import Settings

OPEN = ("/health",)
CLOSED = ("/v1/", "/api/", "/metrics", "/openapi.json")
"""What needs the key. The page itself holds nothing that is secret, and asks for the key by itself."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
CLOSE = {"Connection": "close"}  # what the client still sends is not read


@dataclass
class _Seen:
    """What became of a request: the status that was sent, and whether its body has come."""

    status: int = 0
    complete: bool = False
    received: int = 0


class Guard:
    """ASGI middleware: Host and Origin, key, size and time of the body, headers of every answer, counts."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, paths: Iterable[str] = ()) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._digest = None if settings.key is None else _digest(settings.key)
        self._paths = set(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        begin, seen = time.monotonic(), _Seen()
        scope["genus.begin"] = begin

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        self.metrics.in_flight += 1
        try:
            try:
                self._check(scope)
            except Refused as error:
                await error.send(scope, receive, answer)
                return
            await self._bounded(scope, receive, answer, seen)
        except Exception:  # answered outside of this middleware
            seen.status = seen.status or 500
            raise
        finally:
            self.metrics.in_flight -= 1
            path = scope["path"] if scope["path"] in self._paths else "other"
            self.metrics.count("requests", path=path, status=str(seen.status or 499))
            self.metrics.time("request", time.monotonic() - begin, path=path)

    async def _bounded(self, scope: Scope, receive: Receive, answer: Send, seen: _Seen) -> None:
        """Run the application with a body that has a largest size and a time until which it must have come."""
        limits = self.settings.limits
        until = asyncio.get_running_loop().time() + limits.upload

        async def bounded() -> Message:
            if seen.complete:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError as error:
                late = f"the body did not come within {limits.upload:g} seconds"
                raise Refused(408, late, code="upload_timeout", headers=CLOSE) from error
            if message["type"] == "http.request":
                seen.received += len(message.get("body", b""))
                if seen.received > limits.body:
                    raise _too_large(limits.body)
                seen.complete = not message.get("more_body", False)
            return message

        await self.app(scope, bounded, answer)

    def _check(self, scope: Scope) -> None:
        """Refuse what should not even be read.

        Raises:
            Refused: a foreign Host or Origin (403), no key or a wrong one (401), a body that is too large (413) or no JSON (415).
        """
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host")
        if [name.lower() for name, _ in scope["headers"]].count(b"host") > 1 or not self.settings.may_call(host):
            remedy = "call it by its address, or allow the name with --allow-host"
            raise Refused(403, f"the server is not called {host!r}: {remedy}", code="host_not_allowed")
        origin = headers.get(b"origin")
        if origin is not None and origin.partition("://")[2].lower() != (host or "").lower():
            raise Refused(403, "pages of other sites may not use this server", code="origin_not_allowed")
        path = scope["path"]
        if self._digest is not None and path.startswith(CLOSED) and not self._knows_key(headers.get(b"authorization")):
            message = "a key is needed: Authorization: Bearer KEY"
            raise Refused(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or int(length) > self.settings.limits.body:
            raise _too_large(self.settings.limits.body)
        kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and path.startswith("/v1/") and kind != "application/json":
            raise Refused(415, "send JSON, with the header Content-Type: application/json", code="not_json")

    def _knows_key(self, header: str | None) -> bool:
        """Compared by digest and in constant time: how long it takes tells neither length nor beginning."""
        kind, _, key = (header or "").partition(" ")
        assert self._digest is not None
        return hmac.compare_digest(_digest(key.strip()), self._digest) and kind.lower() == "bearer"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _too_large(most: int) -> Refused:
    return Refused(413, f"the request is larger than {most:,} bytes; send less at once", code="body_too_large", headers=CLOSE)
