"""One worker process: reads "STAGE UNIT" lines, does that unit, answers one JSON line.

    python -m genus.prepare.worker DATA.partial

Own processes instead of `multiprocessing`, because a script that calls `prepare` then needs no `if __name__ == "__main__"`, and
nothing is forked from a parent that has threads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from genus.prepare.plan import Plan
from genus.prepare.stages import run_unit
from genus.prepare.workspace import Workspace


def serve(folder: str) -> None:
    """Answer until the input ends, which it also does when the parent dies."""
    space = Workspace(Path(folder))
    plan = Plan.from_json(space.plan)
    for line in sys.stdin:
        stage, unit = line.split()
        try:
            run_unit(space, plan, stage, int(unit))
            answer: dict[str, int | str] = {"done": int(unit)}
        except ValueError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
