"""A trained model that goes on learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from genus.modalities.text import Tokenizer
from genus.objectives.usual import usual
from genus.parts.model import Model
from genus.prepare.dataset import Dataset
from genus.recipes.recipe import Recipe
from genus.run import load
from genus.spec import from_json
from genus.train import choose
from genus.train.options import TrainOptions


class Taken(NamedTuple):
    """What a run or a folder gives: its recipe with the options applied, the model, and its tokenizer."""

    recipe: Recipe
    model: torch.nn.Module
    tokenizer: Tokenizer


def take_up(path: Path, data: Dataset, options: TrainOptions, say: choose.Say) -> Taken:
    """Load a model that is to go on learning from `data`.

    Raises:
        ValueError: it is counted, was made for another tokenizer, or the options change its shape.
    """
    loaded = load(path)
    if not isinstance(loaded.spec, Model):
        raise ValueError(f"{path} holds a model that is counted, not descended; train an n-gram on the new data instead")
    tokenizer = loaded.tokenizer
    if tokenizer is None or not tokenizer.extends(data.tokenizer):
        raise ValueError(
            f"{data.root} was prepared with another tokenizer than {path} uses; prepare it again with --tokenizer {path}"
        )
    spec = loaded.config.get("recipe")
    recipe = from_json(spec) if spec else Recipe(name=path.name, objective=usual(loaded.spec))
    recipe = choose.adjust(recipe.replace(model=loaded.spec), options)
    model: Any = loaded.model
    if recipe.model != loaded.spec:
        model = recipe.model.build(0)
        _same_weights(model, loaded.model)
    say(f"model: continued from {path}, {recipe.parameters_total:,} parameters")
    return Taken(recipe, model, tokenizer)


def _same_weights(new: torch.nn.Module, old: torch.nn.Module) -> None:
    """Move weights into a model whose spec differs in values that own no weight (dropout, say)."""
    try:
        new.load_state_dict(old.state_dict())
    except RuntimeError as error:
        raise ValueError("the overrides change the shape of the model that is continued; leave its shape as it is") from error
