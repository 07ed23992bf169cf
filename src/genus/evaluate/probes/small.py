"""The small model of an architecture that a task is learnt with."""

from __future__ import annotations

from genus.parts.model import Model
from genus.parts.ngram import NGram
from genus.recipes import find, make
from genus.recipes.recipe import Recipe
from genus.recipes.sizes import shape, takes

DIM, DEPTH, HEADS = 64, 2, 1  # one head, as Zoology has: two of half the width came to recall many times later
ORDER = 5  # of an n-gram


def small(recipe: str | Recipe, vocab: int, length: int) -> Recipe:
    """A recipe's name: its model at 64 wide, 2 layers (more where the recipe has no fewer), one head. A recipe: its own sizes.

    Either way with the task's vocabulary, and room for its longest row.

    Raises:
        ValueError: the model sees both sides of a token, or its learned positions are too few.
    """
    from genus.evaluate.scoring import how

    result = _named(recipe, vocab, length) if isinstance(recipe, str) else _resized(recipe, vocab)
    how(result.model)
    limit = result.model.context  # type: ignore[attr-defined]
    if limit is not None and limit < length:
        raise ValueError(f"{result.name} has {limit} learned positions and this probe's rows have {length}; give it more")
    return result


def describe(recipe: Recipe) -> str:
    """One line such as `llama, 2 layers × 64 wide, 98,624 parameters`."""
    if isinstance(recipe.model, NGram):
        return f"{recipe.name}, order {recipe.model.order}"
    return f"{recipe.name}, {shape(recipe)}"


def _named(name: str, vocab: int, length: int) -> Recipe:
    system = find(name)
    low, high = system.depths
    depth = min(max(DEPTH, low), high)
    sizes = {"dim": DIM, "depth": depth, "heads": HEADS, "vocab": vocab, "context": length, "order": ORDER}
    accepted = takes(system)
    return make(name, **{k: v for k, v in sizes.items() if k in accepted or k in ("vocab", "context")})


def _resized(recipe: Recipe, vocab: int) -> Recipe:
    if isinstance(recipe.model, NGram):
        return recipe.replace(model=recipe.model.replace(vocab=vocab, bos=0, eos=0, grams=()))
    assert isinstance(recipe.model, Model)
    return recipe.replace(model=recipe.model.replace(embed=recipe.model.embed.replace(vocab=vocab)))
