"""A run that has no finished model yet, as its newest checkpoint left it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from genus.export import huggingface
from genus.export.tokens import read_tokenizer
from genus.modalities.text import Tokenizer
from genus.recipes.recipe import Recipe
from genus.run import CONFIG, Loaded, Run, model_folder
from genus.spec import from_json
from genus.train.checkpoint import complete, restore_weights
from genus.train.record import same_data


class Unfinished(NamedTuple):
    """What is known of it.

    Attributes:
        checkpoint: the newest. recipe: as it was begun. tokenizer: of its data, or of what it goes on from.
    """

    run: Run
    checkpoint: Path
    recipe: Recipe
    tokenizer: Tokenizer | None

    @property
    def step(self) -> int:
        """Updates that it has seen."""
        return int(self.checkpoint.name.removeprefix("step-"))

    def load(self) -> Loaded:
        """The model with the weights of the checkpoint, in evaluation mode.

        Raises:
            OSError: two newer checkpoints have come, and this one is gone.
        """
        with torch.random.fork_rng(devices=[]):  # the weights that `build` draws are overwritten at once
            model = self.recipe.model.build(0)
        restore_weights(self.checkpoint / "model.safetensors", model)
        return Loaded(model.eval(), self.recipe.model, self.tokenizer, self.run.path, self.run.config)


def unfinished(path: str | Path) -> Unfinished | None:
    """A run that trains, or that was stopped before its end; None of one that is finished, and of what is no run.

    None, too, of a run without a checkpoint: a young one, one that counts, and one that tunes, which has a model for each of its
    fits and none of its own.

    Raises:
        ValueError, OSError: its data, or its base, which have the tokenizer, are not what they were.
    """
    path = Path(path)
    if not (path / CONFIG).is_file():
        return None
    run = Run.open(path)
    checkpoints = complete(run.checkpoints_dir)
    if (run.model_dir / "config.json").is_file() or not checkpoints:
        return None
    recipe: Recipe = from_json(run.config["recipe"])
    if base := run.config.get("base"):
        folder, _ = model_folder(base)
        tokenizer = read_tokenizer(folder, huggingface.read_config(folder))
    else:
        tokenizer = same_data(run.config).tokenizer.extended(recipe.objective.symbols)
    return Unfinished(run, checkpoints[-1], recipe, tokenizer)
