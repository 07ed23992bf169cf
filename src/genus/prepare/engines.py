"""Where the units of a stage are done: in local processes, or on the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from genus.ops import processor
from genus.prepare.plan import Plan
from genus.prepare.pool import Pool
from genus.prepare.workspace import Workspace

LOCAL, RAY = "local", "ray"


class Engine(Protocol):
    """Does the units of a stage that are waiting, and says `done(unit)` after each."""

    def __call__(self, space: Workspace, plan: Plan, stage: str, waiting: list[int], done: Callable[[int], None]) -> None: ...


@contextmanager
def engine(name: str, workers: int | None) -> Iterator[Engine]:
    """The engine called "local", "ray" (the cluster this machine belongs to, else one of its own) or "ray://HOST:PORT".

    Raises:
        ValueError: there is none of this name, or it is not installed.
    """
    if name == LOCAL:
        with closing(Pool(workers or processor.threads())) as run:
            yield run
    elif name == RAY or name.startswith(f"{RAY}://"):
        from genus.prepare.ray_engine import connected

        with connected(None if name == RAY else name, workers) as cluster:
            yield cluster
    else:
        raise ValueError(f"--engine {name}: give local, ray, or the address of a Ray cluster such as ray://HOST:10001")


def run_stage(space: Workspace, plan: Plan, stage: str, run: Engine, done: Callable[[int], None]) -> int:
    """Do every unit of a stage that the journal does not have; returns how many it did have."""
    waiting = []
    for unit in range(len(plan.units)):
        if space.is_done(stage, unit):
            done(unit)
        else:
            waiting.append(unit)
    if waiting:
        run(space, plan, stage, waiting, done)
    return len(plan.units) - len(waiting)
