"""The process: a socket, an event loop, and an end that lets running requests finish."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from genus.serve.app import create_app
from genus.serve.models import Registry
from genus.serve.served import Entry
from genus.serve.settings import Settings

Say = Callable[[str], None]


class Server(uvicorn.Server):
    """uvicorn's server, which a signal ends in good order: its process then ends as it would have ended without one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._told) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _told(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # the second time there is no more waiting
        self.should_exit = True


def listen(settings: Settings) -> socket.socket:
    """A socket that listens at the address of the settings.

    Raises:
        OSError: the address is taken, or not this machine's; the message says what to do.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise OSError(
            f"cannot listen at {settings.host}, port {settings.port}: {error.strerror or error}; "
            "choose another --port (0 = any that is free)"
        ) from error


def make(settings: Settings, registry: Registry | None = None) -> Server:
    """The server of an application, ready to `run(sockets=[listen(settings)])`; its process keeps few of oneDNN's primitives."""
    from genus.ops.memory import keep_few_primitives

    keep_few_primitives()
    limits = settings.limits
    config = uvicorn.Config(
        create_app(settings, registry),
        log_config=None,
        access_log=False,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(max(1, limits.grace)),
        limit_concurrency=limits.connections,
    )
    return Server(config)


def serve(models: Settings | str | Path | Sequence[str | Path], say: Say = print, **options: Any) -> None:
    """Serve until the process is told to stop (Ctrl-C, SIGTERM); what runs then is finished first.

    Args:
        models: runs and model folders, with further settings as `options`; or all of it as `Settings`.
        say: told where the server is, what it serves, and how to try it.

    Raises:
        ValueError, FileNotFoundError: a model cannot be served, or the settings are not safe. OSError: the address is taken.
    """
    if isinstance(models, Settings):
        settings = models
    else:
        given = [models] if isinstance(models, str | Path) else models
        settings = Settings(tuple(map(str, given)), **options)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    registry = Registry(settings)
    with listen(settings) as listening:
        port = listening.getsockname()[1]
        server = make(settings, registry)
        for line in greeting(settings, registry, port):
            say(line)
        server.run(sockets=[listening])


def greeting(settings: Settings, registry: Registry, port: int) -> Iterator[str]:
    """What is said at the start: the address, the models, and a command to try."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(settings.host, settings.host)
    address = f"http://{host}:{port}"
    who = "this machine only" if settings.loopback else "everybody who reaches this machine and knows the key"
    yield f"Genus serves at {address} ({who}); Ctrl-C stops it when what runs is done"
    width = max(map(len, (*registry.entries, *registry.waiting)))
    for name, entry in registry.entries.items():
        size = f"{entry.parameters / 1e6:.3g}M parameters" if entry.parameters else "counts"
        yield f"  {name:<{width}}  {entry.recipe or 'model'}, {size}: {', '.join(sorted(entry.abilities))}{_age(entry)}"
    for name, reason in registry.waiting.items():
        yield f"  {name:<{width}}  cannot answer yet, and will when it can: {reason}"
    if registry.entries:
        key = "" if settings.key is None else ' -H "Authorization: Bearer $GENUS_KEY"'
        yield "try it:"
        yield f"  curl {address}/v1/{_example(registry)} -H 'Content-Type: application/json'{key} -d '{_body(registry)}'"


def _age(entry: Entry) -> str:
    if entry.step is None:
        return ""
    return f" (not finished: its weights after {entry.step:,} updates, and newer ones when there are some)"


def _example(registry: Registry) -> str:
    abilities = next(iter(registry.entries.values())).abilities
    addresses = {"chat": "chat/completions", "complete": "completions", "rewrite": "completions", "classify": "classify"}
    return next((path for ability, path in addresses.items() if ability in abilities), "embeddings")


def _body(registry: Registry) -> str:
    name = next(iter(registry.entries))
    asked: dict[str, dict[str, Any]] = {
        "chat/completions": {"messages": [{"role": "user", "content": "Hello!"}]},
        "completions": {"prompt": "Once upon a time", "max_tokens": 32},
        "classify": {"input": "What a day."},
        "embeddings": {"input": "What a day."},
    }
    return json.dumps({"model": name, **asked[_example(registry)]})
