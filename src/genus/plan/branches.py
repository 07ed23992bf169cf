"""Branches of the family tree as a plan names them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from genus.objectives.causal import Causal
from genus.recipes import SHORT, System, find, make, systems
from genus.spec import nearest


@dataclass(frozen=True)
class Branch:
    """A competitor of a plan.

    Attributes:
        name: what the user called it. recipe: its name on the family tree.
        kind: whether its parameters are counted or found by gradient descent.
    """

    name: str
    recipe: str
    kind: Literal["counted", "descended"]


def trainable(system: System) -> bool:
    """Whether the recipe learns to predict the next token, and nothing else: only then are losses of one kind."""
    return system.counted or (system.generates and make(system.name).objective == Causal())


def names() -> list[str]:
    """Every name that `branch` knows: the short ones, then all recipes that train."""
    return [*SHORT, *(s.name for s in systems() if trainable(s))]


def branch(name: str) -> Branch:
    """The branch called `name`.

    Raises:
        ValueError: there is none (the message names the nearest), or it cannot learn to predict the next token.
    """
    key = name.strip().lower().replace("_", "-")
    try:
        system = find(SHORT.get(key, key))
    except ValueError:
        raise ValueError(f"there is no branch {name!r}{nearest(key, names())} (see: genus recipes)") from None
    if not trainable(system):
        why = "learns from both directions" if system.generates else "sees the whole text at once"
        raise ValueError(
            f"{system.name} {why}, so it cannot be trained to predict the next token alone and no plan can "
            f"compare it; choose among: {', '.join(names())}"
        )
    return Branch(key, system.name, "counted" if system.counted else "descended")


def branches(wanted: Iterable[str]) -> list[Branch]:
    """The branches of those names.

    Raises:
        ValueError: as `branch` does, or two names stand for one recipe.
    """
    found: dict[str, Branch] = {}
    for name in wanted:
        one = branch(name)
        if one.recipe in found:
            raise ValueError(f"{found[one.recipe].name} and {one.name} are the same recipe ({one.recipe}); leave one out")
        found[one.recipe] = one
    return list(found.values())
