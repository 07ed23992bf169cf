"""A server under load: many clients that stream texts of mixed lengths at once, beside llama.cpp's server.

    python -m benchmarks.serve_load                      # 64 clients, 4 requests each
    python -m benchmarks.serve_load --clients 16 --size tiny --requests 2     # to try the script itself

Every client sends one request after the other and reads the stream; prompts have 8 to 512 tokens, texts 16 to 128, the same for
all servers. Told are requests and new tokens per second, the time to the first token, and the time between two tokens (median,
and what 99 of 100 stay under). Some requests are also sent alone, before the load: a text that differs under load is counted, and
so is a request that fails. `genus serve` runs with each kind of weights that is asked for; the peer is llama-cpp-python's server,
which decodes one request at a time, with the same weights as GGUF. It is left out, with a message, when llama_cpp.server cannot
be started. The servers take turns; how much of the processors others used meanwhile is told.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from benchmarks._quiet import watch

from genus.export import huggingface
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import build
from genus.recipes import make
from genus.train.machine import describe

PROMPTS, TEXTS = (8, 512), (16, 128)  # tokens
SIZES = {
    "small": {"dim": 384, "depth": 6, "heads": 6, "vocab": 4096, "context": 1024},
    "base": {"dim": 768, "depth": 12, "heads": 12, "vocab": 4096, "context": 1024},
    "tiny": {"dim": 64, "depth": 2, "heads": 2, "vocab": 512, "context": 1024},
}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        clients: at once. requests: of each, one after the other. weights: of Genus. rounds: turns of every server.
        size: of the model, a LLaMA. alone: requests that are sent alone first and compared. json: also write the results there.
    """

    clients: int = 64
    requests: int = 4
    size: Literal["small", "base", "tiny"] = "small"
    weights: tuple[Literal["fp32", "bf16", "int8", "int4"], ...] = ("fp32", "int8")
    rounds: int = 1
    alone: int = 8
    peer: bool = True
    json: Path | None = None


@dataclass
class Asked:
    """A request, and what came of it: arrival times of its pieces, in seconds after it was sent."""

    prompt: str
    tokens: int
    times: list[float] = field(default_factory=list)
    text: str = ""
    error: str = ""


@dataclass(frozen=True)
class Result:
    """What one server did under load; times in seconds."""

    server: str
    requests: int
    failed: int
    differ: int
    compared: int
    requests_per_second: float
    tokens_per_second: float
    first_median: float
    first_99: float
    between_median: float
    between_99: float
    others: float


# -- the model --------------------------------------------------------------------------------------------------------------


def make_model(size: str, folder: Path) -> Tokenizer:
    """Random weights with a byte-level BPE that was trained on made-up words."""
    rng = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    lexicon = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(6000)]
    texts = [" ".join(rng.choices(lexicon, k=200)) for _ in range(400)]
    sizes = SIZES[size]
    tokenizer = build("bpe", texts, sizes["vocab"])
    torch.manual_seed(0)
    recipe = make("llama", **(sizes | {"vocab": tokenizer.vocab_size}))
    huggingface.save(folder, recipe.model.build().eval(), recipe, tokenizer, dtype="fp32")
    return tokenizer


def questions(count: int, tokenizer: Tokenizer) -> list[Asked]:
    """Requests of mixed lengths, no two alike."""
    rng = random.Random(1)
    usable = [i for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids and tokenizer.decode([i]).isascii()]
    asked = []
    for _ in range(count):
        length = round(2 ** rng.uniform(*(n.bit_length() - 1 for n in PROMPTS)))
        asked.append(Asked(tokenizer.decode(rng.choices(usable, k=length)), rng.randint(*TEXTS)))
    return asked


# -- clients ----------------------------------------------------------------------------------------------------------------


async def ask(port: int, model: str, end: int, asked: Asked) -> Asked:
    """Send one request and read its stream."""
    body = {
        "model": model,
        "prompt": asked.prompt,
        "max_tokens": asked.tokens,
        "temperature": 0,
        "stream": True,
        "logit_bias": {str(end): -100},
    }
    data = json.dumps(body).encode()
    lines = ["POST /v1/completions HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json", "Connection: close"]
    head = "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""])
    found = Asked(asked.prompt, asked.tokens)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begin = time.perf_counter()
        writer.write(head.encode() + data)
        status = await reader.readline()
        if b" 200 " not in status:
            found.error = status.decode().strip()
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    found.error = event["error"]["message"]
                    continue
                found.times.append(time.perf_counter() - begin)
                found.text += event["choices"][0]["text"]
        writer.close()
    except OSError as error:
        found.error = str(error)
    return found


async def load(port: int, model: str, end: int, asked: Sequence[Asked], clients: int) -> list[Asked]:
    """All requests, by so many clients at once."""
    waiting = iter(enumerate(asked))
    done: list[Asked | None] = [None] * len(asked)

    async def client() -> None:
        for number, each in waiting:
            done[number] = await ask(port, model, end, each)

    await asyncio.gather(*(client() for _ in range(clients)))
    return [each for each in done if each is not None]


# -- servers ----------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]  # type: ignore[no-any-return]


@contextmanager
def started(command: list[str], port: int, path: str, log: Path) -> Iterator[None]:
    """A server process that answers.

    Raises:
        RuntimeError: it ends before it does.
    """
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no message"]
                    raise RuntimeError(last[0][:200]) from None
                time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def servers(options: Options, folder: Path) -> Iterator[tuple[str, list[str], int, str]]:
    """Name, command, port and health path of each."""
    for weights in options.weights:
        port = free_port()
        slots = ["--slots", str(options.clients), "--waiting", str(4 * options.clients)]
        yield (
            f"genus {weights}",
            [sys.executable, "-m", "genus", "serve", str(folder), "--port", str(port), "--weights", weights, *slots],
            port,
            "/health",
        )
    if options.peer:
        port = free_port()
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "model.gguf"), "--model_alias", folder.name]
        more = ["--n_ctx", "1024", "--n_threads", str(os.cpu_count()), "--port", str(port), "--interrupt_requests", "False"]
        yield "llama.cpp server", [*command, *more], port, "/v1/models"


def measure(name: str, port: int, model: str, end: int, asked: Sequence[Asked], options: Options) -> Result:
    """One server under load."""
    asyncio.run(load(port, model, end, asked[:1], 1))  # loads the model
    alone = asyncio.run(load(port, model, end, asked[: options.alone], 1))
    done: list[Asked] = []
    window = watch(lambda: done.extend(asyncio.run(load(port, model, end, asked, options.clients))))
    good = [each for each in done if not each.error]
    first = [each.times[0] for each in good if each.times]
    between = [b - a for each in good for a, b in zip(each.times, each.times[1:])]
    failed = len(asked) - len(good)
    for each in {each.error for each in done if each.error}:
        print(f"{name}: {each}")
    return Result(
        name,
        len(asked),
        failed,
        sum(a.text != b.text for a, b in zip(alone, done)),
        len(alone),
        len(good) / window.seconds,
        sum(each.tokens for each in good) / window.seconds,
        statistics.median(first or [float("nan")]),
        percentile(first, 0.99),
        statistics.median(between or [float("nan")]),
        percentile(between, 0.99),
        window.others,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all stays under."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def write_gguf(folder: Path, tokenizer: Tokenizer) -> None:
    """The same model for the peer.

    Raises:
        ImportError: gguf is not installed.
    """
    from benchmarks._gguf import write

    write(folder, folder / "model.gguf", tokenizer)


def show(results: Sequence[Result]) -> None:
    last = f"{'failed':>7}{'differ':>8}{'others':>7}"
    print(f"{'':<18}{'requests/s':>11}{'tokens/s':>9}{'first token':>20}{'between tokens':>18}{last}")
    print(f"{'':<18}{'':>20}{'median':>10}{'99 %':>10}{'median':>9}{'99 %':>9}")
    for r in results:
        speed = f"{r.requests_per_second:>11.2f}{r.tokens_per_second:>9.0f}{r.first_median:>8.2f} s{r.first_99:>8.2f} s"
        between = f"{1e3 * r.between_median:>6.0f} ms{1e3 * r.between_99:>6.0f} ms"
        print(f"{r.server:<18}{speed}{between}{r.failed:>7}{f'{r.differ}/{r.compared}':>8}{r.others:>7.0%}")


def main(options: Options) -> None:
    print({**describe(), "clients": options.clients, "requests": options.clients * options.requests, "size": options.size})
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="genus-load-") as temporary:
        folder = Path(temporary) / "model"
        tokenizer = make_model(options.size, folder)
        asked = questions(options.clients * options.requests, tokenizer)
        if options.peer:
            try:
                write_gguf(folder, tokenizer)
            except (ImportError, ValueError, TypeError) as error:
                print(f"llama.cpp server: left out, there is no GGUF ({error}); pip install -e '.[bench]'")
        for _ in range(options.rounds):
            for name, command, port, path in servers(options, folder):
                if "llama_cpp.server" in command and not (folder / "model.gguf").is_file():
                    continue
                try:
                    with started(command, port, path, Path(temporary) / "log"):
                        results.append(measure(name, port, folder.name, tokenizer.eos_id, asked, options))
                except RuntimeError as error:
                    print(f"{name}: left out, it does not start: {error}")
    show(results)
    if options.json is not None:
        rows: list[dict[str, Any]] = [vars(each) for each in results]
        options.json.write_text(json.dumps({"machine": describe(), "results": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
