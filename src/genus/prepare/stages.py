"""What a worker does, wherever it runs: one unit of one stage, by name."""

from __future__ import annotations

from genus.prepare import encode, rounds
from genus.prepare.plan import Plan
from genus.prepare.workspace import Workspace


def run_unit(space: Workspace, plan: Plan, stage: str, unit: int) -> None:
    """Do a unit of "round-N" or "encode". Doing it twice, even at the same time, gives the same files."""
    if stage == encode.STAGE:
        encode.encode_unit(space, plan, unit)
    else:
        rounds.run_unit(space, plan, int(stage.removeprefix("round-")), unit)
