"""Progress on standard error: a moving bar on a terminal, a plain line now and then elsewhere, nothing when not wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Tells how far a job is, stage by stage.

    `show`: "auto" looks at whether standard error is a terminal, "none" is silent.
    """

    def __init__(self, show: str = "auto") -> None:
        self.show = show

    def note(self, text: str) -> None:
        """Say something once."""
        if self.show != "none":
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """Something of which nobody knows how far it is."""
        start = time.monotonic()
        with _waiting(name) if self.show != "none" and sys.stderr.isatty() else nullcontext():
            yield
        self.note(f"{name}: {time.monotonic() - start:.1f} s")

    @contextmanager
    def stage(self, name: str, total: float, unit: str = "MB", scale: float = 1e6) -> Iterator[_Stage]:
        """A stage of `total` steps; counts are shown divided by `scale`, in `unit`."""
        if self.show == "none":
            yield _Stage()
        elif sys.stderr.isatty():
            with _bar(name, total / scale, unit) as bar:
                yield _Moving(bar, scale)
        else:
            stage = _Lines(name, total, unit, scale)
            yield stage
            stage.end()


class _Stage:
    def advance(self, count: float) -> None:
        """Say that `count` more steps are done."""


class _Moving(_Stage):
    def __init__(self, bar: Any, scale: float) -> None:
        self._bar, self._scale = bar, scale

    def advance(self, count: float) -> None:
        self._bar.advance(self._bar.task_ids[0], count / self._scale)


class _Lines(_Stage):
    def __init__(self, name: str, total: float, unit: str, scale: float) -> None:
        self._name, self._total, self._unit, self._scale = name, total, unit, scale
        self._count = 0.0
        self._start = self._last = time.monotonic()

    def advance(self, count: float) -> None:
        self._count += count
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            print(f"{self._name}: {self._text()}", file=sys.stderr, flush=True)

    def end(self) -> None:
        seconds = time.monotonic() - self._start
        print(f"{self._name}: {self._text()} in {seconds:.1f} s", file=sys.stderr, flush=True)

    def _text(self) -> str:
        return f"{self._count / self._scale:,.1f} of {self._total / self._scale:,.1f} {self._unit}"


def _waiting(name: str) -> Any:
    from rich.console import Console

    return Console(stderr=True).status(name)


def _bar(name: str, total: float, unit: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.1f} of {task.total:,.1f} " + unit),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.add_task(name, total=total)
    return bar
