"""Models small enough to write to disk in milliseconds."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from genus.recipes import find, make
from genus.recipes.recipe import Recipe

TINY = {"dim": 32, "depth": 2, "heads": 4, "vocab": 61, "context": 24}


@pytest.fixture
def tiny() -> Callable[..., tuple[Recipe, Any]]:
    """A recipe of the given name at a tiny size, and a model of it with every number different."""

    def build(name: str, **changes: Any) -> tuple[Recipe, Any]:
        accepted = inspect.signature(find(name).function).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
        sizes = {k: v for k, v in TINY.items() if k in accepted or anything}
        recipe = make(name, **(sizes | changes))
        model = recipe.model.build(0).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.1)
        return recipe, model

    return build
