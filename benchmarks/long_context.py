"""What a request costs as its context grows: a Transformer, one that sees a window of its text, and a model of constant state.

    python -m benchmarks.long_context
    python -m benchmarks.long_context --cpu --rows 1 --weights int8                   # a busy machine: one thread, processor time
    python -m benchmarks.long_context --contexts 128 512 --dim 96 --depth 2      # to try the script itself

All are of the same size, with random weights, and decoded by the scheduler of `genus serve`: so many requests with prompts of so
many tokens, read in chunks, then one token for each in every step. Told are the bytes of state that a request holds, the time
until all prompts are read, and the tokens per second after that, with recorded steps (`genus.generate.replay`) and without, in
turns.
"""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal
from unittest.mock import patch

import torch
import tyro
from benchmarks._quiet import quiet

from genus.generate.engine import Engine
from genus.generate.replay import Replays
from genus.generate.sampling import Sampling
from genus.generate.scheduler import Scheduler
from genus.generate.sequence import Request
from genus.generate.weights import ready
from genus.prepare.tokenizer import words
from genus.recipes import make
from genus.train.machine import describe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WARM = 6  # steps before the first turn, in which one is recorded


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        contexts: tokens of each prompt. rows: requests at once. new: steps of a turn. turns: with recorded steps and without.
            retries: how often a noisy window is tried again. dtype: of the activations and of the states of attention.
            cpu: processor time on one thread instead of wall time.
    """

    contexts: tuple[int, ...] = (512, 4096, 16384)
    recipes: tuple[str, ...] = ("llama", "mistral", "deltanet")
    dim: int = 384
    depth: int = 6
    heads: int = 6
    vocab: int = 4096
    rows: int = 4
    new: int = 32
    turns: int = 2
    weights: Literal["fp32", "bf16", "int8", "int4"] = "bf16"
    dtype: Literal["fp32", "bf16"] = "bf16"
    cpu: bool = False
    retries: int = 3


def measure(engine: Engine, context: int, options: Options) -> tuple[float, float, float, float, float]:
    """Bytes of state per request, seconds until all prompts are read, tokens per second, the same without recorded steps, and
    share of the processors that others had."""
    generator = torch.Generator().manual_seed(context)
    prompts = torch.randint(1, options.vocab - 2, (options.rows, context), generator=generator).tolist()
    scheduler = Scheduler(engine, slots=options.rows)
    never = Sampling(0.0, logit_bias=((engine.tokenizer.eos_id, -100.0),))
    clock = time.process_time if options.cpu else time.perf_counter
    room = 2 * options.new * options.turns * (1 + options.retries) + WARM
    for prompt in prompts:
        scheduler.submit(Request(tuple(prompt), room, never))
    start = clock()
    while scheduler.stats.running < options.rows:
        scheduler.step()
    read = clock() - start
    held = scheduler.stats.state_bytes / options.rows
    for _ in range(WARM):
        scheduler.step()
    times: dict[bool, list[float]] = {True: [], False: []}
    others = 0.0

    def work() -> None:
        for _ in range(options.new):
            begin = clock()
            scheduler.step()
            times[recorded].append(clock() - begin)

    for turn in range(2 * options.turns):
        recorded = turn % 2 == 0
        with nullcontext() if recorded else patch.object(Replays, "takes", return_value=False):
            if options.cpu:
                work()
            else:
                others = max(others, quiet(work, options.retries, pause=1.0).others)
    speed, plain = (options.rows / statistics.median(times[recorded]) for recorded in (True, False))
    return held, read, speed, plain, others


@torch.inference_mode()
def main(options: Options) -> None:
    if options.cpu:
        torch.set_num_threads(1)
    print({**describe(), "rows": options.rows, "weights": options.weights, "dtype": options.dtype, "cpu": options.cpu})
    tokenizer = words(f"w{i}" for i in range(options.vocab - 2))  # beside the unknown word and the end
    head = f"{'':<12}{'parameters':>12}{'context':>9}{'state per request':>19}{'prompts read':>14}"
    print(f"{head}{'tokens/s':>10}{'unrecorded':>12}{'others':>8}")
    for name in options.recipes:
        torch.manual_seed(0)
        sizes = {"dim": options.dim, "depth": options.depth, "heads": options.heads, "vocab": options.vocab}
        spec = make(name, **sizes, context=max(options.contexts) + 1024).model
        engine = Engine(ready(spec.build(0).eval(), options.weights), tokenizer, dtype=DTYPES[options.dtype])
        for context in options.contexts:
            held, read, speed, plain, others = measure(engine, context, options)
            line = f"{name:<12}{spec.parameters(0) / 1e6:>10.1f} M{context:>9,}{held / 2**20:>15.2f} MiB{read:>12.1f} s"
            print(f"{line}{speed:>10.1f}{plain:>12.1f}{'' if options.cpu else f'{others:.0%}':>8}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
