"""Measuring on a machine that others use: a window counts only while they are quiet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LIMIT = 0.10  # of all processor time, used by others, at which a window is thrown away
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Window:
    """Seconds that a piece of work took and the share of the processors that others used meanwhile."""

    seconds: float
    others: float

    @property
    def quiet(self) -> bool:
        return self.others < LIMIT


def _busy() -> float:
    """Processor seconds that all processes of the machine have used; 0 where the system does not say."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, soft, steal, *_ = map(int, fields)
    return (user + nice + system + irq + soft + steal) / TICKS


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def watch(work: Callable[[], object]) -> Window:
    """Run `work` once."""
    busy, own, start = _busy(), _own(), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    others = _busy() - busy - (_own() - own)
    return Window(seconds, max(0.0, others) / (seconds * (os.cpu_count() or 1)))


def quiet(work: Callable[[], object], retries: int = 5, pause: float = 5.0) -> Window:
    """Run `work` until a window was quiet, at most 1 + `retries` times; the quietest window where none was."""
    best = watch(work)
    for _ in range(retries):
        if best.quiet:
            break
        time.sleep(pause)
        best = min(best, watch(work), key=lambda w: w.others)
    return best
