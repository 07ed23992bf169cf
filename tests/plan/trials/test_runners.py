"""The same six trials under local processes, Ray and submitit: one table. Killed workers, and engines that are not there."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genus.plan.trials import runners
from genus.plan.trials.runners.local import Local, Task
from genus.plan.trials.runners.protocol import Lost, Runner, work
from genus.plan.trials.sweep import sweep
from genus.plan.trials.trial import Result, Trial, run_trial
from genus.prepare.dataset import Dataset

STEP = 8 * 32
LONG = (10**6 * STEP,)


def tiny(data: Dataset, recipe: str = "gpt2", **changes: Any) -> Trial:
    sizes = {"lstm": ("dim=16", "depth=1"), "ngram": ("order=3",)}.get(recipe, ("dim=16", "depth=1", "heads=2"))
    standard = {"horizons": (12 * STEP, 24 * STEP), "context": 32, "batch": 8, "eval_tokens": 1024, "dtype": "fp32"}
    return Trial(recipe, None, data=str(data.root), fingerprint=data.fingerprint, **{**standard, "overrides": sizes, **changes})


@pytest.fixture(scope="module")
def six(corpus: Dataset) -> list[Trial]:
    """Two sizes, two recurrent trials, an n-gram, and one that diverges."""
    return [
        tiny(corpus),
        tiny(corpus, overrides=("dim=32", "depth=1", "heads=2")),
        tiny(corpus, "lstm"),
        tiny(corpus, "lstm", seed=1),
        tiny(corpus, "ngram", horizons=(8000, 30000)),
        tiny(corpus, lr_factor=1e4),
    ]


@pytest.fixture(scope="module")
def table(six: list[Trial], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measured(Local(2), six, tmp_path_factory.mktemp("local"))


def measured(runner: Runner, trials: list[Trial], folder: Path) -> dict[str, Any]:
    """What must not depend on who ran it: everything but times and memory."""
    done = sweep(trials, runner, folder)
    assert {r.key: r.reason for r in done.results if r.status == "failed"} == {}
    assert sorted((Result.read(t, folder) for t in trials), key=lambda r: r.key) == sorted(done.results, key=lambda r: r.key)
    return {r.key: (r.status, r.reason, r.initial, [(p.tokens, p.loss, p.bpb, p.error) for p in r.points]) for r in done.results}


def test_local_processes(six: list[Trial], table: dict[str, Any]) -> None:
    assert set(table) == {t.key for t in six}
    assert [table[t.key][0] for t in six] == ["done"] * 5 + ["diverged"]
    assert all(len(table[t.key][3]) == 2 for t in six[:5])


@pytest.mark.slow  # six processes under Slurm's way of doing it, each of which imports torch
@pytest.mark.parametrize(("engine", "package"), [("ray:2", "ray"), ("submitit-local:2", "submitit")])
def test_other_engines_give_the_same_table(
    engine: str, package: str, six: list[Trial], table: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip(package)
    assert measured(runners.open(engine), six, tmp_path) == table


@pytest.mark.parametrize(("engine", "package"), [("ray:1", "ray"), ("submitit-local:1", "submitit")])
def test_one_trial_on_other_engines(engine: str, package: str, corpus: Dataset, tmp_path: Path) -> None:
    """As if it had been run in this process; nothing of the engine goes on afterwards."""
    library = pytest.importorskip(package)
    wanted = tiny(corpus)
    assert measured(runners.open(engine), [wanted], tmp_path / "there") == measured(Here(), [wanted], tmp_path / "here")
    assert package != "ray" or not library.is_initialized()


class Here:
    name, workers = "here", 1

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
        yield from (run_trial(t, folder) for t in trials)


def test_a_worker_serves_several_trials_and_ends_with_its_runner(corpus: Dataset, tmp_path: Path) -> None:
    runner = Local(1)
    large = tiny(corpus, overrides=("dim=256", "depth=4", "heads=4"), batch=64, horizons=(2 * 8 * STEP,))
    results = list(runner.run([large, tiny(corpus), replace(tiny(corpus), fingerprint="other")], tmp_path))
    assert [r.status for r in results] == ["done", "done", "failed"]
    assert results[0].peak_memory > results[1].peak_memory + 30 * 2**20  # of the trial, not of the worker
    assert not runner.idle  # after a failure the next one begins afresh
    list(runner.run([tiny(corpus, seed=1)], tmp_path))
    (worker,) = runner.idle
    list(runner.run([tiny(corpus, seed=2)], tmp_path))
    assert runner.idle == [worker]
    del runner
    assert worker.process.poll() is not None


def test_a_killed_worker_is_replaced_once(corpus: Dataset, tmp_path: Path) -> None:
    """The first is killed and its successor finishes; the successor of another is killed too."""
    good, bad = tiny(corpus), tiny(corpus, horizons=LONG)
    started: list[Trial] = []
    runner = Local(1)

    def submit(trial: Trial, folder: Path) -> Task:
        started.append(trial)
        task = runner.submit(trial, folder)
        if trial.horizons == LONG or len(started) == 1:
            os.kill(task.worker.process.pid, signal.SIGKILL)
        return task

    results = {r.key: r for r in work([good, bad], tmp_path, submit, 1)}
    assert results[good.key].status == "done"
    assert results[bad.key].status == "failed"
    assert "SIGKILL" in results[bad.key].reason and "memory" in results[bad.key].reason
    assert [t.key for t in started] == [good.key] * 2 + [bad.key] * 2


def test_a_worker_that_ends_by_itself_says_why(corpus: Dataset, tmp_path: Path) -> None:
    task = Local(1).submit(tiny(corpus), tmp_path)
    task.worker.process.kill()
    task.worker.process.wait()
    task.worker.process = subprocess.Popen(
        ["sh", "-c", "echo trouble >&2; exit 3"], stdin=subprocess.PIPE, stderr=task.worker.errors
    )
    with pytest.raises(Lost, match="exit code 3: trouble"):
        task.result()


def test_closing_ends_the_workers(corpus: Dataset, tmp_path: Path) -> None:
    runner, tasks = Local(1), []

    class Interrupted:
        def __init__(self, task: Task) -> None:
            self.stop, self.result = task.stop, task.result
            tasks.append(task)

        def done(self) -> bool:
            raise KeyboardInterrupt

    results = work([tiny(corpus, horizons=LONG)], tmp_path, lambda t, f: Interrupted(runner.submit(t, f)), 1)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert tasks[0].worker.process.poll() is not None


def test_trials_are_drawn_when_there_is_room(corpus: Dataset, tmp_path: Path) -> None:
    """With two cores: two trials of one thread, or one of two."""
    drawn: list[int] = []
    running: list[Trial] = []

    def trials() -> Iterator[Trial]:
        for threads in (1, 1, 2, 1):
            drawn.append(threads)
            yield tiny(corpus, threads=threads, seed=len(drawn))

    class Instant:
        def __init__(self, trial: Trial, folder: Path) -> None:
            self.trial = trial
            running.append(trial)

        def done(self) -> bool:
            return True

        def result(self) -> Result:
            return Result(self.trial, "done")

        def stop(self) -> None: ...

    results = work(trials(), tmp_path, Instant, 2)
    next(results)
    assert drawn == [1, 1]
    assert len(list(results)) == 3 and drawn == [1, 1, 2, 1]


def test_engines_by_name() -> None:
    assert runners.open("local:3").workers == 3
    assert runners.open("local", cores=1).workers == 1
    assert runners.open("local").workers >= 1
    for engine, message in [
        ("lokal", "did you mean 'local'"),
        ("local:two", "number of cores"),
        ("ray:0", "number of cores"),
    ]:
        with pytest.raises(ValueError, match=message):
            runners.open(engine)


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_extra_that_is_missing_is_named(engine: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ValueError, match=rf"genus\[{engine}\]"):
        runners.open(engine)


def test_slurm_without_a_cluster_says_so(corpus: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(ValueError, match="--engine local"):
        next(iter(runners.open("slurm:gpu").run([tiny(corpus)], tmp_path)))
