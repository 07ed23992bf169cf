"""The table of parts adds up to the model."""

import numpy as np
import pytest

import genus
from genus.parts.ngram import NGram
from genus.report.anatomy import anatomy
from genus.spec import to_json


@pytest.mark.parametrize("name", [s.name for s in genus.recipes.systems() if s.branch != "counting"])
def test_parts_add_up(name: str) -> None:
    recipe = genus.recipe(name, dim=32, depth=2, heads=2, vocab=100, context=64)
    rows = anatomy(to_json(recipe), 64)
    assert sum(r.parameters for r in rows) == recipe.parameters_total
    assert sum(r.flops for r in rows) == pytest.approx(recipe.model.flops(0, 64))
    assert all(r.bytes == 4 * r.parameters and r.count >= 1 for r in rows)


def test_an_ngram_is_shown_order_by_order() -> None:
    model = NGram(order=3, vocab=50, grams=(200, 300))
    rows = anatomy(
        {
            "part": "Recipe",
            "name": "ngram",
            "model": to_json(model),
            "objective": {"part": "Causal"},
            "training": {"part": "Training"},
        }
    )
    assert [(r.name, r.count) for r in rows] == [("1-grams", 50), ("2-grams", 200), ("3-grams", 300)]
    assert sum(r.parameters for r in rows) == model.parameters()
    assert sum(r.bytes for r in rows) == sum(np.dtype(d).itemsize * n for d, n in model.shapes().values())


@pytest.mark.parametrize(
    "recipe", [None, {}, [], {"part": "Gone"}, {"part": "Recipe", "model": {"part": "Spec"}}, {"name": "ngram"}]
)
def test_a_recipe_that_cannot_be_read_has_no_table(recipe: object) -> None:
    assert anatomy(recipe) == []
