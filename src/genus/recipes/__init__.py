"""The family tree: one short function per published system, grouped by branch."""

from __future__ import annotations

from typing import Any

from genus.recipes import (  # noqa: F401  (importing a branch registers its systems)
    counting,
    decoders,
    encoders,
    fast_weights,
    recurrent,
    seq2seq,
    transformer,
)
from genus.recipes.recipe import BRANCHES, SHORT, Recipe, System, find, systems
from genus.recipes.sizes import arguments, fit, proportioned, shape

__all__ = [
    "BRANCHES",
    "SHORT",
    "Recipe",
    "System",
    "arguments",
    "find",
    "fit",
    "get",
    "make",
    "names",
    "proportioned",
    "shape",
    "systems",
]

get = find


def make(name: str, **sizes: Any) -> Recipe:
    """The recipe `name` at the given sizes (dim, depth, heads, vocab, context, ...), its own defaults otherwise."""
    return find(name).function(**sizes).replace(name=find(name).name)


def names() -> list[str]:
    """Names of all systems on the tree."""
    return [s.name for s in systems()]
