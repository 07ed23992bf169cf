"""Trials as Ray tasks: on cores of this machine, or on a cluster that runs already.

Data and folder must have the same path on every machine of a cluster; a result is also sent back and written here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from genus.ops import processor
from genus.plan.trials.runners.protocol import Lost, work
from genus.plan.trials.trial import Result, Trial, answer

STORE = 100 * 2**20  # bytes of shared memory for a Ray of our own: results are a few kilobytes


class Ray:
    """Tasks of `trial.threads` cores each.

    Args:
        address: "ray://HOST:PORT"; None = start Ray here. workers: cores to use; None = all of this machine, or of the cluster.
    """

    name = "ray"

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.ray = _library()
        self.address = address
        self.workers = workers or processor.threads()

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
        ours = not self.ray.is_initialized()
        if ours:
            self._start()
        if self.address:
            self.workers = max(1, int(self.ray.cluster_resources().get("CPU", self.workers)))
        try:
            yield from work(trials, folder, self._submit, self.workers)
        finally:
            if ours:
                self.ray.shutdown()

    def _start(self) -> None:
        if self.address:
            try:
                self.ray.init(self.address, log_to_driver=False)
            except (ConnectionError, TimeoutError) as error:
                raise ValueError(f"no Ray cluster answers at {self.address}; start one with: ray start --head") from error
            return
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing leaves this machine
        self.ray.init(
            num_cpus=self.workers,
            object_store_memory=STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _node_ip_address="127.0.0.1",
        )

    def _submit(self, trial: Trial, folder: Path) -> _Task:
        remote = self.ray.remote(num_cpus=trial.threads, max_retries=0)(answer)  # lost workers are our affair: see `work`
        return _Task(self.ray, remote.remote(json.dumps(trial.to_json()), str(folder)), folder)


class _Task:
    def __init__(self, ray: Any, reference: Any, folder: Path) -> None:
        self.ray, self.reference, self.folder = ray, reference, folder

    def done(self) -> bool:
        return bool(self.ray.wait([self.reference], timeout=0)[0])

    def result(self) -> Result:
        try:
            result = Result.from_json(json.loads(self.ray.get(self.reference)))
        except (self.ray.exceptions.RayError, ConnectionError) as error:
            raise Lost(f"the Ray worker was lost: {str(error).strip().splitlines()[0]}") from None
        if result.final and Result.read(result.trial, self.folder) is None:
            result.write(self.folder)
        return result

    def stop(self) -> None:
        self.ray.cancel(self.reference, force=True)


def _library() -> Any:
    try:
        import ray
    except ImportError:
        raise ValueError("the engine ray needs Ray: pip install 'genus[ray]'") from None
    return ray
