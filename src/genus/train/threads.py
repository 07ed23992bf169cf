"""How many threads torch computes with: measured once for each machine, with the products of a training step, and kept.

torch takes one for every core, which is right on a quiet machine with whole cores of its own. Where the system counts hardware
threads as cores, where a container may use fewer than it sees, or where many cores share a memory that few can saturate, another
number is faster. Whoever sets the number is obeyed: GENUS_THREADS, OMP_NUM_THREADS, MKL_NUM_THREADS.

The commands call `settle`; a program that imports genus keeps the threads it has.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch

from genus.ops.cache import cache_folder
from genus.ops.processor import Processor, processor
from genus.run import write_atomic
from genus.train.machine import compute_dtype, default_device

VARIABLE = "GENUS_THREADS"
OTHERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # torch reads these itself
CLEARLY = 1.10  # times as fast as with a thread for each core, or it is not worth leaving that
ROUNDS = 7  # of which the median counts
QUIET = 0.9  # share of the time that threads, one for each core, must have had their cores
ROWS, INPUTS, OUTPUTS = 2048, 512, 1408  # of the products: a gated MLP of a model 512 wide
FORMAT = 1
Say = Callable[[str], None]


@dataclass(frozen=True)
class Threads:
    """A number of threads, and why.

    Attributes:
        source: the variable that sets it; "measured", "cores" (one for each, measured while others had the machine, or not
            measured), or "accelerator" (torch's own choice). speeds: operations per second by number of threads, as measured.
        share: of the time of a measurement, what threads, one for each core, had of their cores.
    """

    count: int
    source: str
    speeds: tuple[tuple[int, float], ...] = ()
    share: float | None = None

    @property
    def disturbed(self) -> bool:
        """Whether something else ran while it was measured."""
        return self.share is not None and self.share < QUIET

    @property
    def reason(self) -> str:
        """In a few words."""
        if self.source in (VARIABLE, *OTHERS):
            return f"{self.source} says so"
        if self.source == "accelerator":
            return "torch's own choice: the accelerator computes"
        if self.source == "measured":
            return "measured on this machine"
        if self.disturbed:
            return "one for each core; something else was running, so the measurement was not kept"
        return "one for each core"


def settle(say: Say = lambda _: None) -> Threads:
    """Let torch compute with the number of threads that is best here. The first call on a machine measures for a second.

    Args:
        say: told the number where it was measured just now.

    Raises:
        ValueError: GENUS_THREADS is not a number of threads.
    """
    threads, new = _settled()
    if threads.source not in (*OTHERS, "accelerator"):
        torch.set_num_threads(threads.count)
    if new:
        say(f"threads: {threads.count}, {threads.reason}")
    return threads


def known() -> Threads:
    """The number that `settle` would set if it did not measure.

    Raises:
        ValueError: as `settle`.
    """
    machine = processor()
    return _told() or _only(machine) or _read(_file(machine)) or Threads(machine.cores, "cores")


@cache
def _settled() -> tuple[Threads, bool]:
    """The number, and whether it was measured just now."""
    machine = processor()
    found = _told() or _only(machine) or _read(_file(machine))
    if found is not None:
        return found, False
    speeds, share = measure(candidates(machine))
    found = choose(machine.cores, speeds, share)
    if not found.disturbed:
        _keep(_file(machine), found)
    return found, True


def _told() -> Threads | None:
    """What the user or the kind of machine says."""
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        if not text.isdigit() or not 1 <= int(text) <= 1024:
            raise ValueError(f"{VARIABLE}={text}: write a number of threads, such as {VARIABLE}=4, or leave it out")
        return Threads(int(text), VARIABLE)
    for name in OTHERS:
        if os.environ.get(name, "").strip():
            return Threads(torch.get_num_threads(), name)
    return Threads(torch.get_num_threads(), "accelerator") if default_device().type != "cpu" else None


def _only(machine: Processor) -> Threads | None:
    return Threads(1, "cores") if len(candidates(machine)) == 1 else None


def candidates(machine: Processor) -> list[int]:
    """Numbers that may be best, first one for each core; all hardware threads where they are more; fewer than the cores."""
    cores = machine.cores
    more = [machine.usable[0]] if machine.usable[0] > cores and machine.quota is None else []
    return list(dict.fromkeys([cores, *more, max(1, cores // 2), max(1, cores // 4)]))


def measure(counts: Sequence[int], rounds: int = ROUNDS) -> tuple[dict[int, list[float]], float]:
    """Speed of a layer's three products (forward, gradient of the input, gradient of the weight), the counts in turns.

    Returns:
        operations per second by count, round by round; and the share of the time that the threads of the first count had their
        cores: what is missing to 1 went to something else.
    """
    before = torch.get_num_threads()
    dtype = compute_dtype("auto", torch.device("cpu"))
    x, w = torch.randn(ROWS, INPUTS).to(dtype), torch.randn(OUTPUTS, INPUTS).to(dtype)
    speeds: dict[int, list[float]] = {count: [] for count in counts}
    wall = processor_time = 0.0

    def work() -> None:
        y = x @ w.T
        y @ w
        y.T @ x

    try:
        for _ in range(rounds + 1):
            for count in counts:
                torch.set_num_threads(count)
                work()  # the threads are woken
                start, spent = time.perf_counter(), time.process_time()
                work()
                seconds = time.perf_counter() - start
                speeds[count].append(6 * ROWS * INPUTS * OUTPUTS / seconds)
                if count == counts[0]:
                    wall, processor_time = wall + seconds, processor_time + time.process_time() - spent
    finally:
        torch.set_num_threads(before)
    return {count: each[1:] for count, each in speeds.items()}, processor_time / (wall * counts[0])


def choose(cores: int, speeds: dict[int, list[float]], share: float) -> Threads:
    """One thread for each core, unless another number was clearly faster, round against round, on a machine left alone."""
    told = tuple((count, statistics.median(each)) for count, each in speeds.items())
    if share < QUIET:
        return Threads(cores, "cores", told, share)
    gains = {count: statistics.median(a / b for a, b in zip(each, speeds[cores])) for count, each in speeds.items()}
    best = max(gains, key=lambda count: gains[count])
    return Threads(best if gains[best] > CLEARLY else cores, "measured", told, share)


def _file(machine: Processor) -> Path:
    """Beside the kernels, under what a measurement depends on."""
    content = [FORMAT, torch.__version__, machine.name, machine.logical, machine.physical, machine.usable, machine.quota]
    key = hashlib.sha256(json.dumps([*content, torch.backends.cpu.get_cpu_capability()]).encode()).hexdigest()
    return cache_folder() / f"threads-{key[:16]}.json"


def _read(file: Path) -> Threads | None:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return Threads(int(told["count"]), "measured", tuple((int(n), float(s)) for n, s in told["speeds"]), float(told["share"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(file: Path, threads: Threads) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(asdict(threads)) + "\n")
    except OSError:
        pass  # a folder that cannot be written to: the next command measures again, and genus doctor says why
