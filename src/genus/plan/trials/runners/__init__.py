"""What runs the trials of a plan: processes on this machine, Ray, or Slurm. One protocol, one file each."""

from __future__ import annotations

from genus.plan.trials.runners.protocol import Runner
from genus.spec import nearest

__all__ = ["Runner", "open"]

ENGINES = ("local", "ray", "slurm", "submitit-local")


def open(engine: str = "local", cores: int | None = None) -> Runner:
    """The runner called `engine`.

    Args:
        engine: "local" or "local:2" (processes), "ray" or "ray:2" (started here), "ray://HOST:PORT" (a cluster that runs),
            "slurm" or "slurm:PARTITION", "submitit-local" (Slurm's path without a cluster, for a try).
        cores: used at most, where the engine does not say; None = all of this machine's.

    Raises:
        ValueError: no such engine, or the extra that it needs is not installed.
    """
    name, _, detail = engine.partition(":")
    if name == "local":
        from genus.plan.trials.runners.local import Local

        return Local(_number(engine, detail) or cores)
    if name == "ray":
        from genus.plan.trials.runners.ray import Ray

        return Ray(engine) if detail.startswith("//") else Ray(None, _number(engine, detail) or cores)
    if name in ("slurm", "submitit-local"):
        from genus.plan.trials.runners.slurm import Slurm

        return Slurm("slurm", detail or None) if name == "slurm" else Slurm("local", None, _number(engine, detail) or cores)
    raise ValueError(f"there is no engine {engine!r}{nearest(name, ENGINES)}")


def _number(engine: str, text: str) -> int | None:
    if text and not (text.isdigit() and int(text)):
        raise ValueError(f"{engine!r}: after the colon stands a number of cores, such as {engine.partition(':')[0]}:2")
    return int(text) if text else None
