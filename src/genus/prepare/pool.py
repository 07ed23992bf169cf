"""The local engine: the units of a stage here, or in worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue

import genus
from genus.prepare import stages
from genus.prepare.plan import Plan
from genus.prepare.workspace import Workspace


class Pool:
    """Does units here, or in processes that stay from one stage to the next: starting one takes seconds. An `engines.Engine`."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._children: list[subprocess.Popen[str]] = []
        self._folder: Path | None = None

    def __call__(self, space: Workspace, plan: Plan, stage: str, waiting: list[int], done: Callable[[int], None]) -> None:
        """Do the waiting units of a stage.

        A single unit runs in this process, where the tokenizer uses all threads itself.

        Raises:
            ValueError: what a unit complained of.
            RuntimeError: a worker died.
        """
        processes = min(self._workers, len(waiting))
        if processes <= 1:
            for unit in waiting:
                stages.run_unit(space, plan, stage, unit)
                done(unit)
            return
        if (self._folder, len(self._children)) != (space.folder, processes):
            self.close()
            self._start(space.folder, processes)
        try:
            self._share(stage, waiting, done)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the processes, whatever they are at."""
        for child in self._children:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
        self._children = []

    def _start(self, folder: Path, processes: int) -> None:
        threads = str(max(1, self._workers // processes))
        path = os.pathsep.join([str(Path(genus.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-m", "genus.prepare.worker", str(folder)]
        self._folder = folder
        self._children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment)
            for _ in range(processes)
        ]

    def _share(self, stage: str, waiting: list[int], done: Callable[[int], None]) -> None:
        jobs: Queue[int] = Queue()
        for unit in waiting:
            jobs.put(unit)
        answers: Queue[dict] = Queue()
        for child in self._children:
            threading.Thread(target=_feed, args=(child, stage, jobs, answers), daemon=True).start()
        for _ in waiting:
            answer = answers.get()
            if "error" in answer:
                raise ValueError(answer["error"])
            if "died" in answer:
                raise RuntimeError(
                    f"a worker died with exit status {answer['died']} (out of memory?): what is finished is kept, "
                    "run the command again, with fewer --workers if memory was short"
                )
            done(answer["done"])


def _feed(child: subprocess.Popen[str], stage: str, jobs: Queue[int], answers: Queue[dict]) -> None:
    assert child.stdin is not None and child.stdout is not None
    try:
        while True:
            unit = jobs.get_nowait()
            child.stdin.write(f"{stage} {unit}\n")
            child.stdin.flush()
            line = child.stdout.readline()
            if not line:
                answers.put({"died": child.wait()})
                return
            answers.put(json.loads(line))
    except Empty:
        return
    except (OSError, ValueError):  # the pipe is gone: the child died, or the stage was given up
        answers.put({"died": child.poll()})
