"""Train what a plan recommends, with the prediction written into the run before its first update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from genus.plan.store import FILE, Plan
from genus.prepare.dataset import Dataset
from genus.run import Run, must_be_free
from genus.train.options import TrainOptions
from genus.train.start import start


def is_plan(path: str | Path) -> bool:
    """Whether the folder holds a plan."""
    return (Path(path) / FILE).is_file()


def execute(path: str | Path, out: str | Path, name: str | None = None, say: Callable[[str], None] = print) -> Run:
    """Train the recommended run of a plan, or another of the plan's by its name.

    Args:
        path: the plan's folder. out: the run directory to make. name: a branch, or an alternative such as `llama-half`.

    Raises:
        FileExistsError: `out` is taken. ValueError: the plan was edited, has no such run, or its data has changed since.
    """
    must_be_free(out)
    plan = Plan.open(path)
    choice = plan.choice(name)
    data = Dataset.open(plan.data["path"])
    if data.fingerprint != plan.data["fingerprint"]:
        raise ValueError(
            f"{data.root} is not the data of the plan any more (its fingerprint differs); "
            "prepare it as before, or make a new plan for it"
        )
    say(f"plan: {choice.recipe}, {choice.loss:.4f} bits/byte predicted ({choice.low:.4f} to {choice.high:.4f})")
    return start(choice.recipe, data.root, out, TrainOptions.from_json(choice.options), say, plan.prediction(choice))
