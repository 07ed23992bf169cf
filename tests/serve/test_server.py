"""The process: what it says, how it is told to stop, and what it then finishes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from genus.cli import main
from genus.serve.models import Registry
from genus.serve.server import greeting, listen
from genus.serve.settings import Settings


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """`genus serve` with these arguments, its port, and what it printed."""
    command = [sys.executable, "-m", "genus", "serve", "--port", "0", *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    assert running.stdout is not None and running.stderr is not None
    lines: list[str] = []
    try:
        while not any("curl" in line for line in lines):
            line = running.stdout.readline()
            assert line, running.stderr.read()
            lines.append(line)
        match = re.search(r"http://127\.0\.0\.1:(\d+)", lines[0])
        assert match
        port = int(match[1])
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield running, port, lines
    finally:
        running.kill()
        running.wait(10)


def begin(port: int, tokens: int) -> socket.socket:
    body = json.dumps(
        {"model": "writer", "prompt": "A", "max_tokens": tokens, "logit_bias": {"256": -100}, "stream": True}
    ).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def rest(connection: socket.socket) -> bytes:
    read = b""
    while part := connection.recv(65536):
        read += part
    return read


def test_what_runs_is_finished(folder: Path) -> None:
    with process(str(folder / "writer")) as (running, port, lines):
        assert "writer" in lines[1] and "gpt2" in lines[1]
        connection = begin(port, 60)
        first = connection.recv(200)
        assert first.startswith(b"HTTP/1.1 200")
        running.send_signal(signal.SIGTERM)
        text = first + rest(connection)
        assert b'"finish_reason":"length"' in text and b"data: [DONE]" in text
        assert running.wait(20) == 0


def test_the_second_time_it_does_not_wait(folder: Path) -> None:
    with process(str(folder / "writer")) as (running, port, _):
        connection = begin(port, 4096)
        connection.recv(200)
        running.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0


def test_the_command_that_it_shows_works(folder: Path) -> None:
    for name in ("writer", "talker", "reader"):
        settings = Settings((str(folder / name),), key="a-long-secret" if name == "reader" else None)
        lines = list(greeting(settings, Registry(settings), 1234))
        body = json.loads(re.findall(r"-d '(.*)'", lines[-1])[0])
        assert body["model"] == name and "127.0.0.1:1234/v1/" in lines[-1] and "a-long-secret" not in "".join(lines)
    assert "$GENUS_KEY" in lines[-1] and "/v1/embeddings" in lines[-1]


def test_mistakes_at_the_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listen(Settings(("m",), port=0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, what in (
            (["serve", str(folder / "writer"), "--port", port], "choose another --port"),
            (["serve", str(folder / "writer"), "--host", "0.0.0.0"], "GENUS_KEY"),
            (["serve", str(folder / "none")], "neither a run nor"),
            (["serve"], "no model to serve"),
        ):
            assert main(arguments) == 2
            assert what in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for word in ("--host", "--port", "--weights", "/v1/chat/completions", "GENUS_KEY", "--memory"):
        assert word in text
