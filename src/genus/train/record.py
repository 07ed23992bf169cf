"""What `run.json` says of a run: enough to run it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genus import __version__
from genus.prepare.dataset import Dataset, Split
from genus.recipes.recipe import Recipe
from genus.spec import to_json
from genus.train.machine import describe
from genus.train.options import TrainOptions


def specification(source: str, recipe: Recipe, data: Dataset, options: TrainOptions, **more: Any) -> dict[str, Any]:
    """The contents of `run.json` before anything has been trained. `more`: what this kind of training adds."""
    split = data.split("train")
    return {
        "genus": __version__,
        "source": source,
        "recipe": to_json(recipe),
        "data": {
            "path": str(Path(data.root).resolve()),
            "fingerprint": data.fingerprint,
            "tokens": split.tokens,
            "bytes_per_token": split.bytes / max(1, split.tokens),
            "vocab": data.vocab_size,
        },
        "options": options.to_json(),
        "seed": options.seed,
        "machine": describe(),
        "threads": torch.get_num_threads(),
        "versions": {"genus": __version__, "torch": torch.__version__},
        **more,
    }


def same_data(config: dict[str, Any]) -> Dataset:
    """The data a run began with.

    Raises:
        ValueError: it has changed since.
    """
    data = Dataset.open(config["data"]["path"])
    if data.fingerprint != config["data"]["fingerprint"]:
        raise ValueError(f"{data.root} is not the data this run began with (its fingerprint differs); prepare it as before")
    return data


def compare_threads(config: dict[str, Any], say: Callable[[str], None]) -> None:
    """Say so where a run goes on with another number of threads: sums of floats depend on how many share them."""
    began, now = config.get("threads"), torch.get_num_threads()
    if began not in (None, now):
        say(f"threads: {now}, and the run began with {began}: its weights differ in their last digits (GENUS_THREADS={began})")


def validation_split(data: Dataset) -> Split | None:
    """The validation split, or None when the data has none."""
    counts = data.manifest["splits"].get("validation")
    return data.split("validation") if counts and counts["documents"] else None
