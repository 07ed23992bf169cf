"""Trials in processes of this machine, one per core."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Generator, Iterable
from pathlib import Path

from genus.ops import processor
from genus.plan.trials.runners.protocol import Lost, work
from genus.plan.trials.trial import Result, Trial

GRACE = 5.0  # seconds that a worker has to end when it is told to


class Local:
    """Workers are processes of their own, so one that is killed, or that takes too much memory, takes only its trial with it.

    A worker whose trial ended well serves the next (importing torch takes longer than many a trial); all of them end with the
    runner. `workers`: cores to use; None = all that this process may use.
    """

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or processor.threads()
        self.idle: list[Worker] = []
        weakref.finalize(self, _end, self.idle)

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
        return work(trials, folder, self.submit, self.workers)

    def submit(self, trial: Trial, folder: Path) -> Task:
        """Give a trial to a worker that is free, or to a new one."""
        alive = [w for w in self.idle if w.threads == trial.threads and w.process.poll() is None]
        worker = alive[0] if alive else Worker(trial.threads)
        if alive:
            self.idle.remove(worker)
        return Task(self, worker, trial, folder)


class Worker:
    """A process that serves trials of so many threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        # Files, not pipes: a pipe that nobody empties would stop a talkative worker. A session of its own: an interrupt from
        # the keyboard reaches this process alone, which then ends its workers.
        self.out, self.errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "genus.plan.trials.trial"],
            env={**os.environ, **limits},
            stdin=subprocess.PIPE,
            stdout=self.out,
            stderr=self.errors,
            start_new_session=True,
        )
        self.read = 0  # bytes of `out` that belong to earlier trials

    def ask(self, spec: str, folder: str) -> None:
        """Send a trial; a worker that is gone already shows in `answer`."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write((json.dumps([spec, folder]) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def answer(self) -> str | None:
        """The line that answers the question, once it is complete."""
        size = os.fstat(self.out.fileno()).st_size
        text = os.pread(self.out.fileno(), size - self.read, self.read)  # leaves the worker's place in the file alone
        return text.decode() if text.endswith(b"\n") else None

    def last_words(self) -> str:
        size = os.fstat(self.errors.fileno()).st_size
        lines = os.pread(self.errors.fileno(), 4096, max(0, size - 4096)).decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no message"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.out.close()
        self.errors.close()


class Task:
    """One trial in the hands of a worker."""

    def __init__(self, runner: Local, worker: Worker, trial: Trial, folder: Path) -> None:
        self.runner, self.worker, self.trial, self.folder = runner, worker, trial, folder
        worker.ask(json.dumps(trial.to_json()), str(folder))

    def done(self) -> bool:
        return self.worker.process.poll() is not None or self.worker.answer() is not None

    def result(self) -> Result:
        text = self.worker.answer()
        if text is not None:
            result = Result.from_json(json.loads(text))
            if result.status == "failed":  # whatever it was, the next trial begins with a clean process
                self.worker.stop()
            else:
                self.worker.read += len(text.encode())
                self.runner.idle.append(self.worker)
            return result
        code, words = self.worker.process.wait(), self.worker.last_words()
        self.worker.stop()
        found = Result.read(self.trial, self.folder)
        if found is not None:
            return found
        if code < 0:
            name = signal.Signals(-code).name
            cause = ": probably there was not enough memory; fewer cores or rows need less" if name == "SIGKILL" else ""
            raise Lost(f"the worker was ended by {name}{cause}")
        raise Lost(f"the worker ended with exit code {code}: {words}")

    def stop(self) -> None:
        self.worker.stop()


def _end(workers: list[Worker]) -> None:
    for worker in workers:
        worker.stop()
