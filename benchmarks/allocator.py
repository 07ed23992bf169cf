"""What it is worth to keep freed memory: updates of a LLaMA with the C allocator as it is, and as `genus train` sets it.

    python -m benchmarks.allocator            # 8 layers x 512, context 512, 8 rows, vocabulary 16384
    python -m benchmarks.allocator --shape small

Each way runs in a process of its own, in turns. Page faults and processor time hardly notice other programs.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from benchmarks.train_speed import SHAPES, genus_trainer

from genus.ops.memory import keep_freed_memory
from genus.train.machine import describe


@dataclass(frozen=True)
class Options:
    """shape: of train_speed. updates: that are counted, after three. rounds: turns of each way."""

    shape: Literal["small", "large", "tiny"] = "large"
    updates: int = 3
    rounds: int = 2


@dataclass(frozen=True)
class Cost:
    """Of an update: page faults, and seconds of the processor in the program and in the system."""

    faults: float
    user: float
    system: float


def measure(kept: bool, shape: str, updates: int) -> Cost:
    if kept and not keep_freed_memory():
        raise SystemExit("this system's C library has no mallopt; there is nothing to compare")
    with tempfile.TemporaryDirectory() as folder:
        trainer = genus_trainer("llama", SHAPES[shape], False, Path(folder))
        for _ in range(3):
            trainer.update()
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(updates):
            trainer.update()
        after = resource.getrusage(resource.RUSAGE_SELF)
    names = ("ru_minflt", "ru_utime", "ru_stime")
    return Cost(*((getattr(after, name) - getattr(before, name)) / updates for name in names))


def main(options: Options) -> None:
    found: dict[bool, list[Cost]] = {False: [], True: []}
    for _ in range(options.rounds):
        for kept, costs in found.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                costs.append(pool.submit(measure, kept, options.shape, options.updates).result())
    print(f"{describe()['device']}; an update of llama, shape {options.shape}; the least of {options.rounds} rounds")
    print(f"{'':<28}{'page faults':>13}{'program s':>11}{'system s':>10}")
    for kept, costs in found.items():
        least = [min(getattr(cost, name) for cost in costs) for name in ("faults", "user", "system")]
        name = "freed memory is kept" if kept else "the allocator as it is"
        print(f"{name:<28}{least[0]:>13,.0f}{least[1]:>11.2f}{least[2]:>10.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
