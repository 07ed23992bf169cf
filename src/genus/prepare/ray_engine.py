"""The Ray engine: Ray Data maps the same unit functions over the numbers of the units (extra `ray`).

Only numbers travel through Ray. Sources, journal and result lie on a file system that every machine mounts at the same place. A
unit whose worker died is done again elsewhere; its files come into being complete and are the same, so nothing is lost.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.prepare.plan import Plan
from genus.prepare.rounds import forget_loaded
from genus.prepare.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from genus.prepare.engines import Engine

TRIES = 5
"""Times that a unit is tried whose worker dies. More would only hide that memory is short."""


@contextmanager
def connected(address: str | None, workers: int | None) -> Iterator[Engine]:
    """The engine, connected to a cluster: the one this process already uses, that at `address`, or a new one on this machine.

    Args:
        workers: units done at the same time; None = as many as the cluster has processors.

    Raises:
        ValueError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ValueError('--engine ray needs Ray: pip install "genus[ray]"') from error
    mine = not ray.is_initialized()
    if mine:
        try:
            where: dict[str, Any] = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
            if address is None and os.environ.get("RAY_ADDRESS"):
                where = {}
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
        except (ConnectionError, TimeoutError) as error:
            raise ValueError(
                f"--engine {address or 'ray'}: the cluster does not answer ({error}): start it with: ray start"
            ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield lambda space, plan, stage, waiting, done: _run(space, plan, stage, waiting, done, workers)
    finally:
        if mine:
            ray.shutdown()


def _run(space: Workspace, plan: Plan, stage: str, waiting: list[int], done: Callable[[int], None], workers: int | None) -> None:
    import ray.data

    key = hashlib.sha256(json.dumps(plan.to_json(), sort_keys=True).encode()).hexdigest()
    units = ray.data.from_items([{"unit": unit} for unit in waiting], override_num_blocks=len(waiting))
    for unit in waiting:
        _tries(space, stage, unit).unlink(missing_ok=True)
    answers = units.map_batches(
        _unit,  # type: ignore[arg-type]
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={"folder": str(space.folder.resolve()), "key": key, "stage": stage},
        num_cpus=1,
        concurrency=workers,
    )
    for answer in answers.iter_rows():
        if answer["error"]:
            raise ValueError(answer["error"])
        if answer["died"]:
            raise RuntimeError(
                f"{TRIES} workers died at one piece of the sources (out of memory?): what is finished is kept, run the command "
                "again, with fewer --workers if memory was short"
            )
        done(answer["unit"])


def _unit(batch: pa.Table, folder: str, key: str, stage: str) -> pa.Table:
    """On a worker: do one unit, answer with its number, what it complained of, and whether too many workers died of it."""
    import pyarrow as pa

    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    from genus.prepare.stages import run_unit

    (unit,) = batch.column("unit").to_pylist()
    error, died = "", False
    try:
        space, plan = _opened(folder, key)
        with open(_tries(space, stage, unit), "a+") as tries:  # Ray itself would try for ever
            tries.write("x")
            died = tries.tell() > TRIES
        if not died:
            run_unit(space, plan, stage, unit)
    except ValueError as complaint:
        error = str(complaint)
    return pa.table({"unit": [unit], "error": [error], "died": [died]})


def _tries(space: Workspace, stage: str, unit: int) -> Path:
    """A file with a letter for every worker that began a unit."""
    return space.file(stage, unit, "tries")


@lru_cache(maxsize=1)
def _opened(folder: str, key: str) -> tuple[Workspace, Plan]:
    """`key` changes with the plan, because a worker may outlive it."""
    space = Workspace(Path(folder))
    if not space.journal.is_dir():
        raise ValueError(
            f"a machine of the cluster does not see {folder}: put the output on a file system that all of them mount"
        )
    forget_loaded()
    return space, Plan.from_json(space.plan)
