"""`genus serve`: models behind OpenAI's interface, and a web page."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from genus.cli.train import count


@dataclass(frozen=True)
class Options:
    """Serve trained models over HTTP, to any client of OpenAI's interface, with a web page at the same address.

    /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/classify, /v1/models, /health, /metrics; described in
    /openapi.json.
    Models are loaded when they are first asked for, and unloaded when nobody has used them for a while.

    Only this machine can connect, unless --host says otherwise; then clients must show a key (GENUS_KEY=... genus serve ...).
    """

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN|FOLDER|NAME=FOLDER ...")]
    """Runs, model folders, or folders that hold some; NAME= gives a model another name than its folder's."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 = every network that the machine is in."""
    port: int = 8000
    """Port to listen at; 0 = any that is free."""
    key: str | None = None
    """What clients must send as `Authorization: Bearer KEY`. Other users of this machine can read it in the list of processes:
    better put it into the environment variable GENUS_KEY."""
    allow_host: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A further name by which clients may call the server; may be given several times."""
    weights: Literal["fp32", "bf16", "int8", "int4"] = "fp32"
    """How weights are kept: smaller ones take less memory and are read faster."""
    slots: int = 16
    """Texts that one model writes at once; more wait for their turn."""
    waiting: int = 256
    """Requests that may wait for one model; more are told to try again later."""
    memory: str | None = None
    """Memory that all loaded models may take, such as 4G; the one unused for longest makes room."""
    idle: float = 900.0
    """Seconds after which a model that nobody uses is unloaded."""
    max_tokens: int = 4096
    """Most tokens that are written for one text."""
    max_prompt: int = 32_768
    """Most tokens that are read for one text."""
    timeout: float = 600.0
    """Seconds that a request may take; what was written by then is the answer."""


def main(options: Options) -> int:
    from genus.serve.server import serve
    from genus.serve.settings import Limits, Settings
    from genus.train.threads import settle

    settle()
    settings = Settings(
        options.models,
        options.host,
        options.port,
        os.environ.get("GENUS_KEY") if options.key is None else options.key,
        options.allow_host,
        options.weights,
        options.slots,
        None if options.memory is None else count(options.memory.removesuffix("B")),
        options.idle,
        limits=Limits(tokens=options.max_tokens, prompt=options.max_prompt, seconds=options.timeout, waiting=options.waiting),
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    serve(settings, say=lambda line: print(line, flush=True))
    return 0
