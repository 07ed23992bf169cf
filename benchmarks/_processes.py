"""What a command costs, its children and theirs included: wall-clock seconds, processor seconds, memory."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux: processes whose parent ended become our children, and their time is counted


@dataclass(frozen=True)
class Usage:
    """Seconds of the clock and of all processors, and the most bytes that all processes owned together at one time.

    Owned is resident memory without pages of files, which the system may take back at any time. What processes share counts
    once.
    """

    seconds: float
    cpu: float
    peak: int
    output: str


def run(words: Sequence[object], environment: Mapping[str, str] | None = None, every: float = 0.1) -> Usage:
    """Run a command; memory is looked at each `every` seconds.

    Raises:
        SystemExit: it failed; the message is the end of what it wrote to standard error.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    command = list(map(str, words))
    with tempfile.TemporaryFile("w+", errors="replace") as output, tempfile.TemporaryFile("w+", errors="replace") as errors:
        before, start = _children(), time.perf_counter()
        with subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **(environment or {})}) as process:
            watched = _Peak(process.pid, every)
            process.wait()
            seconds = time.perf_counter() - start
            peak = watched.end()
        _reap()
        cpu = _children() - before
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}\n{errors.read()[-4000:]}")
        output.seek(0)
        return Usage(seconds, cpu, peak, output.read())


def family(pid: int) -> list[int]:
    """The process, its children, theirs ..."""
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        try:
            tasks = list(Path(f"/proc/{found[-1]}/task").iterdir())
            waiting += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def owned(pid: int) -> int:
    """Bytes of a process without pages of files; of pages that n processes share, 1 / n."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))


class _Peak:
    """Looks at a process and its descendants until it is told to end."""

    def __init__(self, pid: int, every: float) -> None:
        self._pid, self._every, self._most, self._over = pid, every, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            self._most = max(self._most, sum(map(owned, family(self._pid))))

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _reap() -> None:
    """Wait for the processes that the command has left behind."""
    try:
        while os.waitpid(-1, 0)[0]:
            pass
    except ChildProcessError:
        pass
