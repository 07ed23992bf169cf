"""What the system tells of processor and memory: cores, the share of them that this process may use, instructions, bytes.

Read from files, without torch. What torch computes with, and what is measured, is in `genus.train.machine`.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# By the names that the makers give them: what the system calls each.
INSTRUCTIONS = {
    "AVX2": "avx2",
    "FMA": "fma",
    "AVX-512": "avx512f",
    "AVX-512 VNNI": "avx512_vnni",
    "AVX-512 BF16": "avx512_bf16",
    "AVX-VNNI": "avx_vnni",
    "AMX BF16": "amx_bf16",
    "AMX INT8": "amx_int8",
    "NEON": "asimd",
    "SVE": "sve",
    "BF16": "bf16",
    "I8MM": "i8mm",
}


@dataclass(frozen=True)
class Processor:
    """A machine's processors and memory.

    Attributes:
        name: of the model. logical, physical: hardware threads and cores of the machine. usable: hardware threads and cores
            that this process may run on. quota: cores' worth of time that its control group gets; None = no limit.
        instructions: names as in INSTRUCTIONS. memory, free, limit: bytes that the machine has, that can be had now, and that
            the control group may take (None = no limit); 0 where the system does not say.
    """

    name: str
    logical: int
    physical: int
    usable: tuple[int, int]
    quota: float | None
    instructions: tuple[str, ...]
    memory: int
    free: int
    limit: int | None

    @property
    def cores(self) -> int:
        """Cores that this process can keep busy, at least one."""
        return max(1, self.usable[1] if self.quota is None else min(self.usable[1], math.ceil(self.quota)))


def processor(root: Path = Path("/")) -> Processor:
    """This machine's; `root`: where `proc` and `sys` are."""
    mine = _affinity()
    places = _cores(root)
    logical = os.cpu_count() or len(mine) or 1
    usable = len(mine) or logical
    if places:
        physical, own = len(set(places.values())), len({place for cpu, place in places.items() if cpu in mine or not mine})
    else:
        physical = own = _counted_cores(logical)
    memory, free = _memory(root)
    limits = [value for file in _group_files(root, "memory.max", "memory.limit_in_bytes") if (value := _number(file))]
    limit = min(limits, default=None)
    return Processor(
        name=name(root),
        logical=logical,
        physical=min(physical, logical),
        usable=(usable, max(1, min(own, usable))),
        quota=_quota(root),
        instructions=_instructions(root),
        memory=memory,
        free=free,
        limit=None if limit is None or (memory and limit >= memory) else limit,
    )


def threads(root: Path = Path("/")) -> int:
    """Hardware threads that this process can keep busy, at least one: those it may run on, and its control group's share."""
    usable, quota = len(_affinity()) or os.cpu_count() or 1, _quota(root)
    return max(1, usable if quota is None else min(usable, math.ceil(quota)))


def peak_resident() -> int:
    """Most bytes of memory that this process held at once. Where the system says no better, also what its parent held."""
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def name(root: Path = Path("/")) -> str:
    """The processor's model."""
    for line in _lines(root / "proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return (_asked("machdep.cpu.brand_string") if sys.platform == "darwin" else "") or platform.processor() or platform.machine()


def _affinity() -> set[int]:
    """Hardware threads that this process may run on; empty where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _cores(root: Path) -> dict[int, tuple[int, int]]:
    """Of each hardware thread its core: package, and number within the package."""
    found = {}
    for folder in (root / "sys/devices/system/cpu").glob("cpu[0-9]*"):
        place = tuple(_number(folder / "topology" / part) for part in ("physical_package_id", "core_id"))
        if None not in place:
            found[int(folder.name[3:])] = place
    return found  # type: ignore[return-value]


def _counted_cores(logical: int) -> int:
    """Cores where there is no /sys."""
    told = _asked("hw.physicalcpu") if sys.platform == "darwin" else ""
    return int(told) if told.isdigit() else logical


def _asked(key: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _instructions(root: Path) -> tuple[str, ...]:
    for line in _lines(root / "proc/cpuinfo"):
        if line.startswith(("flags", "Features")):
            flags = set(line.split(":", 1)[1].split())
            return tuple(known for known, flag in INSTRUCTIONS.items() if flag in flags)
    return ()


def _memory(root: Path) -> tuple[int, int]:
    told = {}
    for line in _lines(root / "proc/meminfo"):
        key, _, value = line.partition(":")
        if key in ("MemTotal", "MemAvailable"):
            told[key] = 1024 * int(value.split()[0])
    if not told and sys.platform == "darwin" and (size := _asked("hw.memsize")).isdigit():
        return int(size), 0
    return told.get("MemTotal", 0), told.get("MemAvailable", 0)


def _quota(root: Path) -> float | None:
    """Cores' worth of time: the least that the control group of this process, or one around it, gets."""
    found = []
    for file in _group_files(root, "cpu.max", "cpu.cfs_quota_us"):
        words = " ".join(_lines(file)).split()
        if file.name == "cpu.max" and len(words) == 2 and words[0].isdigit():
            found.append(int(words[0]) / int(words[1]))
        elif file.name != "cpu.max" and words and words[0].isdigit():  # -1 is no limit
            found.append(int(words[0]) / (_number(file.with_name("cpu.cfs_period_us")) or 100_000))
    return min(found, default=None)


def _group_files(root: Path, second: str, first: str) -> Iterator[Path]:
    """The files of that name of this process's control group and of those around it; `second`: version of the groups."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, file = root / "sys/fs/cgroup", second
        elif first.partition(".")[0] in controllers.split(","):
            base, file = root / "sys/fs/cgroup" / first.partition(".")[0], first
        else:
            continue
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(base) and (folder / file).is_file():
                yield folder / file


def _number(file: Path) -> int | None:
    text = " ".join(_lines(file)).strip()
    return int(text) if text.isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
