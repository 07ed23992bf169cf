"""Examination: everything that can be told of a machine and of what Genus makes of it."""

from __future__ import annotations

import importlib
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genus import __version__
from genus.doctor import packages
from genus.doctor.packages import Extra, Package
from genus.ops.processor import Processor, processor

if TYPE_CHECKING:
    import torch

    from genus.doctor.tour import Seen
    from genus.train.threads import Threads

Say = Callable[[str], None]


@dataclass(frozen=True)
class Torch:
    """The installed PyTorch. capability: the instructions that its own kernels use. cuda: the version it was built for; None =
    for the processor alone."""

    version: str
    capability: str
    cuda: str | None


@dataclass(frozen=True)
class Accelerator:
    """A GPU: its name, bytes of memory, and CUDA's word for what it can do."""

    name: str
    memory: int
    capability: str


@dataclass(frozen=True)
class Kernels:
    """Genus's own kernels in C. compiler, folder: that make and hold them. reasons: by file why it is not there, "" = it is."""

    compiler: str | None
    folder: str
    writable: bool
    reasons: dict[str, str]


@dataclass(frozen=True)
class Ceilings:
    """What was measured: floating-point operations per second of a square matrix product, and bytes per second that are read.

    Attributes:
        share: of the time, what the threads had of their cores meanwhile; None where a GPU computes.
    """

    fp32: float
    bf16: float
    memory: float
    share: float | None = None


@dataclass(frozen=True)
class Path:
    """The path that an op takes for typical arguments. Seconds, operations and bytes as in `genus.doctor.timing.Speed`, None
    where nothing was measured; `right`: whether it gives what the op's definition gives."""

    op: str
    path: str
    shapes: str
    work: str
    forward: float | None = None
    backward: float | None = None
    operations: int = 0
    bytes: int = 0
    distance: float | None = None
    right: bool = True


@dataclass(frozen=True)
class Examination:
    """What was found. Without a working torch everything after `broken` is missing, and `broken` says what is wrong with it."""

    genus: str
    python: str
    system: str
    processor: Processor
    needed: tuple[Package, ...]
    extras: tuple[Extra, ...]
    broken: str = ""
    torch: Torch | None = None
    accelerators: tuple[Accelerator, ...] = ()
    threads: Threads | None = None
    allocator: bool = False
    kernels: Kernels | None = None
    ceilings: Ceilings | None = None
    paths: tuple[Path, ...] = ()


def examine(quick: bool = False, say: Say = lambda _: None) -> Examination:
    """Look at the machine, and measure it unless `quick`. `say`: told what is being done.

    Raises:
        ValueError: a variable of the environment makes no sense (GENUS_THREADS).
    """
    found = Examination(
        genus=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        processor=processor(),
        needed=packages.needed(),
        extras=packages.extras(),
    )
    try:
        say("importing torch")
        importlib.import_module("torch")
        importlib.import_module("numpy")
    except Exception as error:  # a broken installation fails in many ways: a missing library, another version of numpy
        return replace(found, broken=f"{type(error).__name__}: {error}")
    return _with_torch(found, quick, say)


def _with_torch(found: Examination, quick: bool, say: Say) -> Examination:
    import torch

    from genus.doctor.tour import WORKS, tour
    from genus.ops.memory import keep_freed_memory
    from genus.train import threads
    from genus.train.machine import default_device, matmul_ceiling, memory_ceiling

    allocator = keep_freed_memory()
    device = default_device()
    if not quick:
        say("threads")
    count = threads.known() if quick else threads.settle()
    ceilings = None
    if not quick:
        say("ceilings")
        start, spent = time.perf_counter(), time.process_time()
        fp32, bf16 = (matmul_ceiling(dtype, device, 0.5) for dtype in (torch.float32, torch.bfloat16))
        share = (time.process_time() - spent) / (time.perf_counter() - start) / torch.get_num_threads()
        ceilings = Ceilings(fp32, bf16, memory_ceiling(device), share if device.type == "cpu" else None)
    seen = tour(device, WORKS, say)
    return replace(
        found,
        torch=Torch(torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.version.cuda),
        accelerators=_accelerators(),
        threads=count,
        allocator=allocator,
        kernels=_kernels(),
        ceilings=ceilings,
        paths=tuple(_path(s, quick, device, say) for s in seen),
    )


def _path(seen: Seen, quick: bool, device: torch.device, say: Say) -> Path:
    if quick:
        return Path(seen.op, seen.path, seen.shapes, seen.what)
    from genus.doctor.timing import measure

    say(f"{seen.op}, {seen.path}")
    speed = measure(seen, device)
    return Path(seen.op, seen.path, seen.shapes, seen.what, **vars(speed), right=speed.right)


def _accelerators() -> tuple[Accelerator, ...]:
    import torch

    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(number)
        found.append(Accelerator(facts.name, facts.total_memory, f"{facts.major}.{facts.minor}"))
    return tuple(found)


def _kernels() -> Kernels:
    from genus.ops import native
    from genus.ops.cache import cache_folder

    reasons = {file.stem: native.reason(file.stem) for file in sorted(native.SOURCES.glob("*.c"))}
    folder = cache_folder() / "kernels"
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return Kernels(native.find_compiler(), str(folder), os.access(there, os.W_OK), reasons)
