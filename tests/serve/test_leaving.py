"""A client that goes away gives up its slot; one that reads slowly stalls nobody; a time limit ends a text."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from genus.serve.settings import Limits, Settings

from .conftest import Site, running

FOREVER = {"prompt": "A", "max_tokens": 10**6, "logit_bias": {"256": -100}, "user": "someone"}  # it never ends by itself


@pytest.fixture(scope="module")
def narrow(folder: Path) -> Iterator[Site]:
    """Two slots, two places to wait."""
    limits = Limits(waiting=2, tokens=10**6)
    with running(Settings((str(folder / "writer"), str(folder / "talker")), port=0, slots=2, limits=limits)) as site:
        yield site


def begin(site: Site, **asked: object) -> socket.socket:
    """Ask for a text that never ends."""
    body = json.dumps(FOREVER | {"model": "writer"} | asked).encode()
    connection = socket.create_connection(("127.0.0.1", site.port), timeout=20)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_frees_the_slot(narrow: Site, stream: bool) -> None:
    before = narrow.metric("genus_cancelled_total")
    connections = [begin(narrow, stream=stream) for _ in range(2)]
    narrow.until("genus_scheduler_running", lambda n: n == 2)
    connections += [begin(narrow, stream=stream) for _ in range(2)]
    narrow.until("genus_scheduler_waiting", lambda n: n == 2)
    if stream:
        assert b"data: {" in connections[0].recv(4096)
    full = narrow.post("/v1/completions", FOREVER | {"model": "writer"})
    assert full.status == 429 and full.headers["retry-after"] and full.error["code"] == "server_busy"
    connections[3].close()  # while it waits
    connections[0].close()  # while it is written
    narrow.until("genus_scheduler_waiting", lambda n: n == 0)
    narrow.until("genus_scheduler_running", lambda n: n == 2)
    for each in connections:
        each.close()
    narrow.until("genus_scheduler_running", lambda n: n == 0)
    narrow.until("genus_requests_in_flight", lambda n: n == 1)  # the one that asks
    assert narrow.until("genus_cancelled_total", lambda n: n >= before + 4) == before + 4
    short = narrow.post("/v1/completions", {"model": "writer", "prompt": "A", "max_tokens": 3})
    assert short.status == 200


def test_a_slow_reader_stalls_nobody(narrow: Site) -> None:
    with begin(narrow, stream=True, logprobs=5):
        start = time.monotonic()
        other = narrow.post("/v1/completions", {"model": "writer", "prompt": "B", "max_tokens": 20, "stream": True})
        assert other.status == 200 and time.monotonic() - start < 20 and other.events
    narrow.until("genus_scheduler_running", lambda n: n == 0)


def test_an_owner_with_many_requests_does_not_keep_others_out(narrow: Site) -> None:
    greedy = [begin(narrow, max_tokens=150) for _ in range(2)]
    narrow.until("genus_scheduler_running", lambda n: n == 2)
    greedy += [begin(narrow, max_tokens=150) for _ in range(2)]
    narrow.until("genus_scheduler_waiting", lambda n: n == 2)
    greedy.pop().close()
    narrow.until("genus_scheduler_waiting", lambda n: n == 1)
    done = narrow.post("/v1/completions", {"model": "writer", "prompt": "B", "max_tokens": 1, "user": "other"})
    assert done.status == 200
    for each in greedy:
        each.close()
    narrow.until("genus_scheduler_running", lambda n: n == 0)


def test_a_time_limit_ends_a_text(folder: Path) -> None:
    with running(Settings((str(folder / "writer"),), port=0, slots=1, limits=Limits(seconds=1.0, tokens=10**6))) as site:
        site.post("/v1/completions", {"model": "writer", "prompt": "A", "max_tokens": 1})  # loads it
        asked = FOREVER | {"model": "writer"}
        with begin(site, stream=True) as first:
            read = b""
            while b"data:" not in read:  # it runs
                read += first.recv(65536)
            late = site.post("/v1/completions", asked)  # has no slot before its time is over
            while b"[DONE]" not in read:
                read += first.recv(65536)
        assert b'"finish_reason":"length"' in read
        assert late.status in (200, 504) and (late.status == 200 or late.error["code"] == "timeout")
        assert site.metric("genus_scheduler_expired") == 2


def test_many_at_once_are_neither_lost_nor_mixed_up(narrow: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    prompts = [f"{'x' * (i % 7)}{i}" for i in range(12)]
    asked = [
        {"model": ("writer", "talker")[i % 2], "prompt": p, "max_tokens": 5 + i, "temperature": 0} for i, p in enumerate(prompts)
    ]
    alone = [narrow.post("/v1/completions", each).json["choices"][0]["text"] for each in asked]

    def streamed(each: dict) -> str:
        while (reply := narrow.post("/v1/completions", each | {"stream": True})).status == 429:
            time.sleep(0.05)
        return "".join(e["choices"][0]["text"] for e in reply.events)

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(streamed, asked)) == alone
