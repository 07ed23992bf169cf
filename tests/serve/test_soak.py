"""Many requests, many of them given up: memory stays flat, and nothing is left behind."""

from __future__ import annotations

import faulthandler
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genus.serve.metrics import resident_bytes
from genus.serve.settings import Limits, Settings

from .conftest import Site, running
from .test_leaving import begin


def one(site: Site, number: int) -> None:
    """One client: a text, a stream, a vector, a mistake, or a stream that is given up."""
    rng = random.Random(number)
    prompt = "word " * rng.randrange(1, 40)
    asked = {
        "model": rng.choice(("writer", "memory")),
        "prompt": prompt,
        "max_tokens": rng.randrange(1, 60),
        "user": str(number % 5),
    }
    match number % 6:
        case 0:
            with begin(site, stream=True, max_tokens=500) as connection:
                connection.recv(rng.randrange(1, 3000))
        case 1:
            assert site.post("/v1/embeddings", {"model": "reader", "input": [prompt] * 3}).status == 200
        case 2:
            assert site.post("/v1/completions", asked | {"temperature": -1}).status == 400
        case 3:
            talk = {"model": "talker", "messages": [{"role": "user", "content": prompt}], "max_tokens": 30, "n": 2}
            assert site.post("/v1/chat/completions", talk).status == 200
        case _:
            assert site.post("/v1/completions", asked | {"stream": bool(number % 2), "logprobs": 2}).status == 200


WARM, BURST = 1000, 1500  # requests: 10,000 in all


@pytest.mark.slow
def test_memory_stays_flat(folder: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # it takes minutes, and hangs nowhere
    settings = Settings((str(folder),), port=0, slots=8, prefixes=2**20, limits=Limits(waiting=1000))
    with running(settings) as site, ThreadPoolExecutor(12) as pool:
        numbers = iter(range(10**9))

        def burst(count: int) -> int:
            list(pool.map(lambda i: one(site, i), [next(numbers) for _ in range(count)]))
            site.until("genus_scheduler_running", lambda n: n == 0)
            return resident_bytes()

        burst(WARM)  # until every cache is warm
        threads = threading.active_count()
        sizes = [burst(BURST) for _ in range(6)]
        print(f"MiB of the process after every {BURST} requests:", [round(size / 2**20, 1) for size in sizes])
        assert threading.active_count() <= threads + 1
        assert min(sizes[3:]) - min(sizes[:3]) < 8 * 2**20, [size // 2**20 for size in sizes]
        time.sleep(0.2)
        assert site.metric("genus_requests_in_flight") == 1 and site.metric("genus_scheduler_waiting") == 0
