"""What a runner is, and the loop that all of them share: trials are drawn one by one, lost workers are tried once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from genus.plan.trials.trial import Result, Trial

ATTEMPTS = 2  # of a trial whose worker is lost


class Runner(Protocol):
    """Runs trials somewhere.

    Attributes:
        name: the engine. workers: trials of one thread that run at the same time.
    """

    @property
    def name(self) -> str: ...
    @property
    def workers(self) -> int: ...
    def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
        """Results in the order in which trials end. A trial is drawn from `trials` when there is room for it, not before, so
        that a generator may still decide which comes next. Closing the generator stops what runs."""
        ...


class Job(Protocol):
    """A trial under way."""

    def done(self) -> bool:
        """Whether it has ended, well or badly."""
        ...

    def result(self) -> Result:
        """What came of it. Raises `Lost` when the worker is gone without an answer."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Lost(Exception):
    """A worker ended without an answer; says what is known."""


def work(
    trials: Iterable[Trial], folder: str | Path, submit: Callable[[Trial, Path], Job], workers: int, pause: float = 0.05
) -> Generator[Result]:
    """Keep `workers` cores busy with trials. A worker that is lost is replaced once, then its trial is "failed".

    Args:
        submit: starts a trial in a folder. pause: seconds between two looks at the jobs.
    """
    folder = Path(folder).resolve()
    queue = iter(trials)
    running: list[tuple[Trial, int, Job]] = []
    try:
        more = True
        while more or running:
            while more and sum(trial.threads for trial, _, _ in running) < workers:
                trial = next(queue, None)
                if trial is None:
                    more = False
                    break
                trial = replace(trial, data=str(Path(trial.data).resolve()))
                running.append((trial, 1, submit(trial, folder)))
            ended = [entry for entry in running if entry[2].done()]
            for entry in ended:
                running.remove(entry)
                trial, attempt, job = entry
                try:
                    result = job.result()
                except Lost as lost:
                    if attempt < ATTEMPTS:
                        running.append((trial, attempt + 1, submit(trial, folder)))
                        continue
                    result = Result(trial, "failed", f"{lost} ({ATTEMPTS} attempts)")
                yield result
            if not ended and running:
                time.sleep(pause)
    finally:
        for _, _, job in running:
            job.stop()
