"""Processes that measure the same thing at the same time (`genus.plan.machine.measurement`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from types import TracebackType
from typing import Any, Self

PATIENCE = 300.0  # seconds beyond twenty times those that a measurement was given


class Crew:
    """`processes` processes for one branch. Use it as a context; they end with it.

    Attributes:
        startup: seconds until the slowest was ready for its first update. base: bytes of each before it had a model, the most.

    Raises:
        ValueError: a process ended before it had an answer; with its last words.
    """

    def __init__(self, task: dict[str, Any], processes: int) -> None:
        self.recipe = task["recipe"]
        threads = str(task["threads"])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command, pipe = [sys.executable, "-m", "genus.plan.machine.measurement"], subprocess.PIPE
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by __exit__)
        self._members: list[subprocess.Popen[str]] = []
        try:
            for _ in range(processes):
                member = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, env=environment)
                self._members.append(member)
            ready = self.ask({**task, "spawned": time.time()}, PATIENCE, "the start")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.startup = max(r["startup"] for r in ready)
        self.base = max(r["base"] for r in ready)

    def ask(self, question: dict[str, Any], seconds: float, what: str) -> list[dict[str, Any]]:
        """The answers of all to one question, which takes them about `seconds`; `what` names it in an error."""
        patience = 20 * seconds + PATIENCE
        alarm = threading.Timer(patience, self._kill)
        alarm.start()
        try:
            for member in self._members:
                _tell(member, json.dumps(question))
            lines = [_hear(member) for member in self._members]
        finally:
            alarm.cancel()
        if all(lines):
            return [json.loads(line) for line in lines]
        silent = next(m for m, line in zip(self._members, lines, strict=True) if not line)
        silent.wait()
        self._errors.seek(0)
        words = self._errors.read().strip().splitlines()
        reason = words[-1] if words else f"the process was killed (exit status {silent.returncode}); is there enough memory?"
        raise ValueError(f"measuring {self.recipe}, {what}, failed: {reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._kill()
        for member in self._members:
            for end in (member.stdin, member.stdout):
                if end is not None:
                    end.close()
        self._errors.close()

    def _kill(self) -> None:
        for member in self._members:
            if member.poll() is None:
                member.kill()
                member.wait()


def _tell(member: subprocess.Popen[str], line: str) -> None:
    assert member.stdin is not None
    try:
        member.stdin.write(line + "\n")
        member.stdin.flush()
    except BrokenPipeError:  # it has ended; its silence will tell
        pass


def _hear(member: subprocess.Popen[str]) -> str:
    assert member.stdout is not None
    return member.stdout.readline()
