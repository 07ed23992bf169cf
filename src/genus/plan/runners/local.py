"""Trials in processes of this machine, one per core."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path

from genus.plan.runners.protocol import Lost, cores, work
from genus.plan.trial import Result, Trial

GRACE = 5.0  # seconds that a worker has to end when it is told to


class Local:
    """A fresh process for each trial: what one of them does to its memory, or to itself, harms no other."""

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or cores()

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
        return work(trials, folder, Process, self.workers)


class Process:
    """One worker."""

    def __init__(self, trial: Trial, folder: Path) -> None:
        self.trial, self.folder = trial, folder
        threads = str(trial.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
        words = [sys.executable, "-m", "genus.plan.trial", json.dumps(trial.to_json()), str(folder)]
        # Files, not pipes: a pipe that nobody empties would stop a talkative worker. A session of its own: an interrupt from
        # the keyboard reaches this process alone, which then ends its workers.
        self.out, self.errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.errors, start_new_session=True
        )

    def done(self) -> bool:
        return self.process.poll() is not None

    def result(self) -> Result:
        code = self.process.wait()
        said, errors = _read(self.out), _read(self.errors)
        if code == 0 and said:
            return Result.from_json(json.loads(said[-1]))
        found = Result.read(self.trial, self.folder)
        if found is not None:
            return found
        if code < 0:
            name = signal.Signals(-code).name
            cause = ": probably there was not enough memory; fewer cores or rows need less" if name == "SIGKILL" else ""
            raise Lost(f"the worker was ended by {name}{cause}")
        raise Lost(f"the worker ended with exit code {code}: {errors[-1] if errors else 'no message'}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _read(file: object) -> list[str]:
    file.seek(0)  # type: ignore[attr-defined]
    lines: list[str] = file.read().decode("utf-8", "replace").strip().splitlines()  # type: ignore[attr-defined]
    file.close()  # type: ignore[attr-defined]
    return lines
