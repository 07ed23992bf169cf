"""Trials as jobs of a Slurm cluster, through submitit. Data and folder must lie on a disk that all its machines share."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from genus.ops import processor
from genus.plan.trials.runners.protocol import Lost, work
from genus.plan.trials.trial import Result, Trial, answer

QUEUED = 64  # trials in Slurm's hands at a time
MINUTES = 12 * 60  # that a job may take; one that is cut off goes on from its last horizon
LOGS = "jobs"  # beside the results: submitit's files


class Slurm:
    """Jobs of `trial.threads` cores each.

    Args:
        cluster: "slurm", or "local" for submitit's own processes. partition: of the cluster. workers: at the same time.
    """

    def __init__(self, cluster: str = "slurm", partition: str | None = None, workers: int | None = None) -> None:
        self.submitit = _library()
        self.cluster, self.partition = cluster, partition
        self.name = "slurm" if cluster == "slurm" else "submitit-local"
        self.workers = workers or (QUEUED if cluster == "slurm" else processor.threads())

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
        try:
            executor = self.submitit.AutoExecutor(Path(folder).resolve() / LOGS, cluster=self.cluster)
        except RuntimeError as error:
            raise ValueError(f"Slurm cannot be used here: {error} (--engine local needs no cluster)") from error
        executor.update_parameters(name="genus-trial", timeout_min=MINUTES, slurm_partition=self.partition)

        def submit(trial: Trial, place: Path) -> _Job:
            executor.update_parameters(cpus_per_task=trial.threads)
            return _Job(executor.submit(answer, json.dumps(trial.to_json()), str(place)), trial, place)

        return work(trials, folder, submit, self.workers, pause=2.0 if self.cluster == "slurm" else 0.1)


class _Job:
    def __init__(self, job: Any, trial: Trial, folder: Path) -> None:
        self.job, self.trial, self.folder = job, trial, folder

    def done(self) -> bool:
        return bool(self.job.done())

    def result(self) -> Result:
        try:
            return Result.from_json(json.loads(self.job.result()))
        except Exception as error:  # a job that failed, was cancelled or left no answer: submitit has a class for each
            found = Result.read(self.trial, self.folder)
            if found is not None:
                return found
            text = str(error).strip().splitlines()
            raise Lost(f"job {self.job.job_id} was lost: {text[0] if text else type(error).__name__}") from None

    def stop(self) -> None:
        self.job.cancel()


def _library() -> Any:
    try:
        import submitit
    except ImportError:
        raise ValueError("the engine slurm needs submitit: pip install 'genus[slurm]'") from None
    return submitit
