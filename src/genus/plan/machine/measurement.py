"""Measure this machine in a process of its own: `python -m genus.plan.machine.measurement`, lines of JSON in and out.

A fresh process makes the memory honest, and as many of them as the machine has cores show what each one gets while the others
work too (`plan.machine.crew`). The first line says what to measure; when everything is set up, so says the first answer.
Each line after it asks for one size, rising, so that what a size holds at most is not what a larger one held before. What is
timed is `Trainer.update`, the step that `genus train` takes.

One thread on the processor is timed by the processor's clock, which stands still while something else has the core: what is
wanted is the speed of a machine that is left alone. How much of the time others took is reported beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genus.ops.memory import keep_freed_memory
from genus.plan.trials.trial import peak_memory
from genus.prepare.dataset import Dataset
from genus.recipes import make
from genus.run import Run
from genus.train import choose
from genus.train.kneser_ney import estimate
from genus.train.loader import First
from genus.train.machine import compute_dtype, default_device, matmul_ceiling
from genus.train.options import TrainOptions
from genus.train.start import assemble
from genus.train.telemetry import Telemetry

WINDOWS, TWICE = 6, 2  # most and fewest windows of a batch size; the fastest counts
DECODED = 24  # tokens of each of three groups whose generation is timed, at most
DECODING = 0.5  # seconds that they may take
TOKENS = 10**12  # of the run that is pretended, so that its schedule stays in its constant part
GROWTH = 4  # between two shares of the corpus that are counted
LEAST = 20_000  # tokens of the first of them
REPEATS = 3  # of each, the fastest counts
Clock = Callable[[], float]
Measure = Callable[[dict[str, Any]], dict[str, Any]]


def main() -> int:
    task = json.loads(sys.stdin.readline())
    keep_freed_memory()
    torch.set_num_threads(task["threads"])
    data = Dataset.open(task["data"])
    measure = _counting(task, data) if task["counted"] else _descending(task, data)
    _answer({"startup": time.time() - task["spawned"], "base": _Peak()()})
    for line in sys.stdin:
        _answer(measure(json.loads(line)))
    return 0


def _answer(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


class _Peak:
    """Most bytes held since the last `begin`; of the accelerator's memory where there is one."""

    def __init__(self) -> None:
        self.before = 0

    def begin(self) -> None:
        """Give freed memory back and count afresh, where the system allows it."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        self.before = peak_memory()

    def __call__(self) -> int | None:
        """None where it cannot be told from what was held before."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        found = peak_memory()
        return found if found > self.before else None


def _descending(task: dict[str, Any], data: Dataset) -> Measure:
    """For a size: tokens per second, memory and the speed of validation for each batch, and the time of a generated token."""
    device = default_device()
    dtype = compute_dtype(task["dtype"], device)
    clock = time.process_time if task["threads"] == 1 and device.type == "cpu" else time.perf_counter
    tokens, peak = data.split("train").tokens, _Peak()

    def measure(size: dict[str, Any]) -> dict[str, Any]:
        ceiling = matmul_ceiling(dtype, device, clock=clock)
        end = time.perf_counter() + size["seconds"]
        model: Any = None
        cells, batches = [], size["batches"]
        with tempfile.TemporaryDirectory() as place:
            for number, rows in enumerate(batches):
                options = TrainOptions(
                    parameters=size["parameters"],
                    tokens=TOKENS,
                    batch=rows,
                    context=task["context"],
                    dtype=task["dtype"],
                    eval_tokens=rows * task["context"],
                )
                recipe = choose.choose(task["recipe"], options, data.vocab_size, tokens, 1.0, lambda _: None).recipe
                peak.begin()
                run = Run(Path(place), {"lr": 1e-4, "steps": TOKENS, "seconds": None})
                trainer = assemble(run, data, recipe, options, Telemetry(run, 1.0, 1.0, 1.0, quiet=True), model)
                model = trainer.model
                share = (end - time.perf_counter()) * rows / sum(batches[number:])
                speed, spread, busy = _windows(trainer.update, rows * task["context"], share, clock)
                evaluation = _time(trainer.validate, clock) if trainer.validation is not None else None
                busy = busy if device.type == "cpu" else 1.0  # an accelerator lets the processor wait
                cell = {"rows": rows, "micro": trainer.plan.micro, "tokens_per_s": speed, "spread": spread, "busy": busy}
                cells.append({**cell, "peak": peak(), "evaluation": evaluation})
                del trainer
            with torch.inference_mode():
                decode = _decode(model, task["context"], device, clock)
        return {"ceiling": ceiling, "decode": decode, "cells": cells}

    return measure


def _windows(update: Callable[[], Any], tokens: int, seconds: float, clock: Clock) -> tuple[float, float, float]:
    """Tokens per second of the fastest window, how far the slowest lies below it, and the processor's share of the time.

    The first update is not counted: it allocates. There are two windows of one update at least, whatever they take.
    """
    begin = time.perf_counter()
    update()
    window = (seconds - (time.perf_counter() - begin)) / WINDOWS
    speeds: list[float] = []
    wall = processor = 0.0
    while len(speeds) < WINDOWS and (len(speeds) < TWICE or time.perf_counter() - begin < seconds):
        start, now, spent, updates = clock(), time.perf_counter(), time.process_time(), 0
        while not updates or time.perf_counter() - now < window:
            update()
            updates += 1
        speeds.append(updates * tokens / (clock() - start))
        wall, processor = wall + time.perf_counter() - now, processor + time.process_time() - spent
    return max(speeds), 1 - min(speeds) / max(speeds), processor / wall


def _time(validate: Callable[[], list[tuple[float, int]]], clock: Clock) -> float:
    """Seconds per token of a validation."""
    start = clock()
    with torch.no_grad():
        targets = sum(count for _, count in validate())
    return (clock() - start) / max(1, targets)


def _decode(model: Any, context: int, device: Any, clock: Clock = time.perf_counter) -> float:
    """Seconds per token at batch 1 in float32, as `genus generate` does; the best of three groups."""
    model.eval()
    most = max(1, min(context, 1 + 3 * DECODED))
    state = model.init_state(1, most, device=device)
    ids = torch.zeros(1, 1, dtype=torch.long, device=device)

    def steps(count: int) -> float:
        start = clock()
        for _ in range(count):
            hidden = model.hidden(ids, state=state) if hasattr(model, "hidden") else None
            (model(ids, state=state) if hidden is None else model.head(hidden)).argmax(-1).tolist()
        return (clock() - start) / count

    first = steps(1)
    group = min((most - 1) // 3, max(1, int(DECODING / 3 / max(first, 1e-9))))
    return min(steps(group) for _ in range(3)) if group else first


def _counting(task: dict[str, Any], data: Dataset) -> Measure:
    """Seconds, memory and parameters at growing shares of the corpus, as far as the time goes."""
    split = data.split("train")
    bos, eos = data.tokenizer.bos_id, data.tokenizer.eos_id
    recipe = make(task["recipe"], vocab=data.vocab_size, bos=bos, eos=eos)
    spec, memory, peak = recipe.model, recipe.training.memory * 2**20, _Peak()  # type: ignore[attr-defined]
    shares = [split.tokens]
    while shares[0] >= GROWTH * LEAST:
        shares.insert(0, shares[0] // GROWTH)

    def measure(question: dict[str, Any]) -> dict[str, Any]:
        end = time.perf_counter() + question["seconds"]
        cells: list[dict[str, Any]] = []
        decode = 0.0
        for tokens in shares:
            if len(cells) > 1 and time.perf_counter() + 1.3 * GROWTH * cells[-1]["seconds"] > end:
                break
            times: list[float] = []
            peak.begin()
            for _ in range(REPEATS):
                with tempfile.TemporaryDirectory() as place:
                    start = time.perf_counter()
                    part = First(split, tokens)
                    model = estimate(
                        part, spec.order, spec.vocab, bos, eos, Path(place) / "model", memory, workers=task["threads"]
                    )
                    times.append(time.perf_counter() - start)
                    decode = _decode(model, 4 * DECODED, torch.device("cpu"))
                if time.perf_counter() + times[0] > end:
                    break
            cell = {"tokens": tokens, "seconds": min(times), "spread": 1 - min(times) / max(times), "peak": peak() or peak.before}
            cells.append({**cell, "parameters": model.spec.parameters()})
        return {"decode": decode, "cells": cells}

    return measure


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
