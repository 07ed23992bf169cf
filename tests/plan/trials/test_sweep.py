"""Cheapest first, stored results for nothing, dropped branches, the deadline, and what an interrupt leaves."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from genus.plan.trials.sweep import operations, sweep
from genus.plan.trials.trial import Point, Result, Trial
from genus.prepare.dataset import Dataset


def trial(size: int, recipe: str = "gpt2", tokens: int = 100_000) -> Trial:
    return Trial(recipe, size, (tokens,), "data", "fingerprint")


class Fake:
    """Runs one trial at a time and stores a result, as real runners do."""

    name, workers = "fake", 1

    def __init__(self, takes: float = 0.0, interrupted_after: int | None = None) -> None:
        self.takes, self.interrupted_after = takes, interrupted_after
        self.ran: list[Trial] = []
        self.closed = False

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
        try:
            for one in trials:
                if len(self.ran) == self.interrupted_after:
                    raise KeyboardInterrupt
                self.ran.append(one)
                time.sleep(self.takes)
                result = Result(one, "done", points=(Point(100_000, 2.0, 1.0, 1.0, 100_000),), seconds=self.takes)
                result.write(folder)
                yield result
        finally:
            self.closed = True


def size(one: Trial) -> float:
    return float(one.parameters or 0)


def test_the_cheapest_comes_first_and_nothing_twice(tmp_path: Path) -> None:
    runner = Fake()
    done = sweep([trial(30), trial(10), trial(20), trial(10)], runner, tmp_path, seconds=size)
    assert [t.parameters for t in runner.ran] == [10, 20, 30] == [r.trial.parameters for r in done.results]
    assert not done.skipped and not done.late and set(done.wall) == {r.key for r in done.results}


def test_stored_results_cost_nothing_and_are_told_first(tmp_path: Path) -> None:
    sweep([trial(20), trial(40)], Fake(), tmp_path, seconds=size)
    runner, told = Fake(), []
    sweep([trial(10), trial(20), trial(30), trial(40)], runner, tmp_path, lambda r: told.append(r.trial.parameters), seconds=size)
    assert [t.parameters for t in runner.ran] == [10, 30] and told == [20, 40, 10, 30]


def test_a_branch_and_a_trial_may_be_dropped_and_taken_back(tmp_path: Path) -> None:
    runner = Fake()

    def drop(result: Result) -> list[str] | None:
        return {10: ["llama", trial(30).key], 20: None, 40: [trial(30).key]}.get(result.trial.parameters or 0)

    wanted = [trial(10), trial(15, "llama"), trial(20), trial(30), trial(40), trial(50, "llama")]
    done = sweep(wanted, runner, tmp_path, drop, seconds=size)
    assert [t.parameters for t in runner.ran] == [10, 20, 40, 15, 50]
    assert [t.parameters for t in done.skipped] == [30] and not done.late


def test_nothing_begins_that_is_predicted_to_end_too_late(tmp_path: Path) -> None:
    """Predicted in seconds: 0.01, 0.02, 60 and 0.03."""
    runner = Fake()
    wanted = [trial(1), trial(2), trial(6000), trial(3)]
    done = sweep(wanted, runner, tmp_path, deadline=time.monotonic() + 20, seconds=lambda t: size(t) / 100)
    assert [t.parameters for t in runner.ran] == [1, 2, 3] and [t.parameters for t in done.late] == [6000]


def test_predictions_are_corrected_by_what_was_measured(tmp_path: Path) -> None:
    """Ten times slower than predicted: what looked as if it fitted does not."""
    runner = Fake(takes=0.1)
    wanted = [trial(1), trial(5000)]
    done = sweep(wanted, runner, tmp_path, deadline=time.monotonic() + 100, seconds=lambda t: size(t) / 100)
    assert [t.parameters for t in done.late] == [5000]
    done = sweep([trial(1, tokens=5), trial(5000, "llama")], Fake(), tmp_path, deadline=time.monotonic() + 100, seconds=size)
    assert [t.parameters for t in done.late] == [5000]


def test_a_deadline_that_has_passed_runs_nothing(tmp_path: Path) -> None:
    sweep([trial(10)], Fake(), tmp_path, seconds=size)
    runner = Fake()
    done = sweep([trial(10), trial(20)], runner, tmp_path, deadline=time.monotonic() - 1, seconds=lambda _: 0.0)
    assert not runner.ran and len(done.results) == 1 and len(done.late) == 1


def test_an_interrupt_leaves_results_and_ends_the_workers(tmp_path: Path) -> None:
    runner = Fake(interrupted_after=2)
    with pytest.raises(KeyboardInterrupt):
        sweep([trial(10), trial(20), trial(30)], runner, tmp_path, seconds=size)
    assert runner.closed
    again = Fake()
    sweep([trial(10), trial(20), trial(30)], again, tmp_path, seconds=size)
    assert [t.parameters for t in again.ran] == [30]


def test_an_error_in_the_callback_ends_the_workers(tmp_path: Path) -> None:
    runner = Fake()

    def broken(_: Result) -> None:
        raise RuntimeError("refit failed")

    with pytest.raises(RuntimeError, match="refit failed"):
        sweep([trial(10), trial(20)], runner, tmp_path, broken, seconds=size)
    assert runner.closed and len(runner.ran) == 1


def test_operations_of_a_trajectory(corpus: Dataset) -> None:
    """The trunk once, each decay on its own; a counted trial is cheap; one that cannot run is refused at once by itself."""
    base = Trial("gpt2", None, (10_000,), str(corpus.root), corpus.fingerprint, 32, 8, overrides=("dim=16", "depth=1", "heads=2"))
    one, two = operations(base), operations(replace(base, horizons=(5_000, 10_000)))
    assert two == pytest.approx(1.1 * one)
    assert operations(replace(base, recipe="ngram", overrides=())) == 10_000
    assert operations(replace(base, data="/nowhere")) == 0.0
