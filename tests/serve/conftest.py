"""Small models with random weights in folders, and servers of them that listen on a free port and stop by themselves."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

import genus
from genus.export import huggingface
from genus.modalities.chat import ready
from genus.prepare.tokenizer import bytes_tokenizer
from genus.serve.server import Server, listen, make
from genus.serve.settings import Settings

from .page_folder import training, tuned

SIZES = {"dim": 32, "depth": 2, "heads": 2, "vocab": 257, "context": 256}
RECIPES = {"writer": "gpt2", "talker": "llama", "rewriter": "t5", "reader": "bert", "memory": "lstm"}


def save(folder: Path, name: str) -> Path:
    """One model of `RECIPES` as a folder in Hugging Face layout."""
    torch.manual_seed(1)
    tokenizer = bytes_tokenizer()
    sizes = dict(SIZES)
    if name == "talker":
        tokenizer = ready(tokenizer)
    if name == "reader":
        tokenizer = tokenizer.extended(("cls", "sep", "mask", "pad"))
    sizes["vocab"] = tokenizer.vocab_size
    recipe = genus.recipe(RECIPES[name], **sizes)
    model = recipe.model.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(std=0.3 * min(1.0, SIZES["dim"] / parameter.shape[-1]) ** 0.5)
    huggingface.save(folder / name, model, recipe, tokenizer)
    return folder / name


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all models of `RECIPES`."""
    path = tmp_path_factory.mktemp("models")
    for name in RECIPES:
        save(path, name)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page can show: models of several kinds, a tuned run, and one that trains."""
    path = tmp_path_factory.mktemp("runs")
    for name in ("talker", "writer", "rewriter"):
        save(path, name)
    tuned(path)
    training(path, "young", 20)
    return path


@pytest.fixture(scope="module")
def desk(runs: Path) -> Iterator[Site]:
    """A server of `runs`."""
    with running(Settings((str(runs),), port=0, slots=4)) as found:
        yield found


@pytest.fixture
def page(browser: Any, desk: Site) -> Iterator[Any]:
    """The page as it opens, on a wide screen and in English."""
    browser.size(1100)
    browser.open(desk.url)
    browser.wait("document.querySelector('.chat textarea[name=message]')")
    yield browser
    assert not browser.problems


@dataclass(frozen=True)
class Reply:
    """An answer: `json` parses its body, `events` what came as server-sent events."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        lines = [line[6:] for line in self.body.decode().split("\n\n") if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]


@dataclass(frozen=True)
class Site:
    """A running server."""

    port: int
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        given = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, given, {"Content-Type": "application/json"} | headers)

    def send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 before it was first counted."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == name)

    def until(self, name: str, holds: Callable[[float], bool], seconds: float = 20.0) -> float:
        """Wait until a metric holds; returns it."""
        end = time.monotonic() + seconds
        while not holds(value := self.metric(name)):
            assert time.monotonic() < end, f"{name} stays {value}"
            time.sleep(0.02)
        return value


@contextmanager
def running(settings: Settings) -> Iterator[Site]:
    """A server in a thread of its own."""
    server = make(settings)
    with listen(settings) as listening:
        thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
            assert thread.is_alive()
        try:
            yield Site(listening.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    """A server of all models."""
    with running(Settings((str(folder),), port=0, slots=4)) as found:
        yield found
