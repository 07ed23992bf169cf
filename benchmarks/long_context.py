"""What a request costs as its context grows: a model whose state has a constant size beside a Transformer of the same size.

    python -m benchmarks.long_context
    python -m benchmarks.long_context --contexts 128 512 --dim 64 --depth 2      # to try the script itself

Both are decoded by the scheduler of `genus serve`, with random weights: so many requests with prompts of so many tokens, read in
chunks, then one token for each in every step. Told are the bytes of state that a request holds, the time until all prompts are
read, and the tokens per second after that.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from benchmarks._quiet import quiet

from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.generate.scheduler import Scheduler
from genus.generate.sequence import Request
from genus.generate.weights import ready
from genus.prepare.tokenizer import words
from genus.recipes import make
from genus.train.machine import describe


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        contexts: tokens of each prompt. rows: requests at once. new: steps that are timed. retries: how often a noisy window is
            tried again.
    """

    contexts: tuple[int, ...] = (512, 4096, 16384)
    recipes: tuple[str, ...] = ("llama", "deltanet")
    dim: int = 384
    depth: int = 6
    heads: int = 6
    vocab: int = 4096
    rows: int = 4
    new: int = 32
    weights: Literal["fp32", "bf16", "int8", "int4"] = "fp32"
    retries: int = 3


def measure(engine: Engine, context: int, options: Options) -> tuple[float, float, float, float]:
    """Bytes of state per request, seconds until all prompts are read, tokens per second, share of the processors of others."""
    generator = torch.Generator().manual_seed(context)
    prompts = torch.randint(1, options.vocab - 2, (options.rows, context), generator=generator).tolist()
    scheduler = Scheduler(engine, slots=options.rows)
    never = Sampling(0.0, logit_bias=((engine.tokenizer.eos_id, -100.0),))
    for prompt in prompts:
        scheduler.submit(Request(tuple(prompt), 4 * options.new * (2 + options.retries), never))
    start = time.perf_counter()
    while scheduler.stats.running < options.rows:
        scheduler.step()
    read = time.perf_counter() - start
    held = scheduler.stats.state_bytes / options.rows
    times: list[float] = []

    def work() -> None:
        times.clear()
        for _ in range(options.new):
            begin = time.perf_counter()
            scheduler.step()
            times.append(time.perf_counter() - begin)

    window = quiet(work, options.retries, pause=1.0)
    return held, read, options.rows / statistics.median(times), window.others


@torch.inference_mode()
def main(options: Options) -> None:
    print({**describe(), "rows": options.rows, "weights": options.weights})
    tokenizer = words(f"w{i}" for i in range(options.vocab - 2))  # beside the unknown word and the end
    print(f"{'':<12}{'parameters':>12}{'context':>9}{'state per request':>19}{'prompts read':>14}{'tokens/s':>10}{'others':>8}")
    for name in options.recipes:
        torch.manual_seed(0)
        sizes = {"dim": options.dim, "depth": options.depth, "heads": options.heads, "vocab": options.vocab}
        spec = make(name, **sizes, context=max(options.contexts) + 1024).model
        engine = Engine(ready(spec.build(0).eval(), options.weights), tokenizer)
        for context in options.contexts:
            held, read, speed, others = measure(engine, context, options)
            millions = spec.parameters(0) / 1e6
            print(
                f"{name:<12}{millions:>10.1f} M{context:>9,}{held / 2**20:>15.2f} MiB{read:>12.1f} s{speed:>10.1f}{others:>8.0%}"
            )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
