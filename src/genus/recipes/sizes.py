"""From a number of parameters to a shape, by the recipe's own rule."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable
from typing import Any

from genus.recipes.recipe import Recipe, System, find
from genus.recipes.training import Counting
from genus.spec import nearest

SIZES = "sizes"  # name of the catch-all by which a recipe hands arguments on to its parent
TOLERANCE = 0.10  # a shape further than this from the wish is refused


def fit(name: str, parameters: int, vocab: int, **fixed: Any) -> Recipe:
    """The recipe `name` with about `parameters` trainable parameters.

    Every depth is paired with the width that comes nearest; among those the winner is nearest in count and in the proportion of
    width to depth that the system's rule aims at.

    Raises:
        ValueError: no sensible shape has that many parameters (the vocabulary alone takes more, say).
    """
    system = find(name)
    if isinstance(system.function().training, Counting):
        raise ValueError(f"{name} is counted, not trained: it has no size to choose; give its order instead")
    if parameters < 1:
        raise ValueError(f"{parameters} parameters are too few for {name}; ask for at least some thousands")
    best: tuple[float, Recipe] | None = None
    nearest_count = 0
    low, high = system.depths
    for depth in range(low, high + 1):
        for recipe, dim in _widths(system, depth, parameters, vocab, fixed):
            count = recipe.parameters_total
            if abs(count - parameters) < abs(nearest_count - parameters):
                nearest_count = count
            miss = abs(count / parameters - 1)
            if miss > TOLERANCE:
                continue
            cost = 4 * miss + abs(math.log(dim / (system.aspect * depth)))
            if best is None or cost < best[0]:
                best = cost, recipe
        if best is not None and depth * system.aspect > 4 * _dim(best[1]):
            break
    if best is None:
        raise ValueError(_refusal(system, parameters, vocab, nearest_count))
    return best[1].replace(name=system.name)


def proportioned(name: str, vocab: int, low: float, high: float, **fixed: Any) -> list[int]:
    """Parameters of the shapes between `low` and `high` whose depth follows from their width by the recipe's rule, rising.

    Shapes of one proportion, so that what a larger one gains it gains by its size. `fit` finds each of them by its count.
    """
    system, found = find(name), []
    least, most = system.depths
    for multiple in range(1, 4097):
        dim = multiple * system.heads_of
        depth = min(max(round(dim / system.aspect), least), most)
        count = _make(system, depth, dim, vocab, fixed).parameters_total
        if count > high:
            break
        if count >= low:
            found.append(count)
    return found


def arguments(name: str, assignments: Iterable[str]) -> dict[str, Any]:
    """`dim=128`, `depth=4` ... as arguments of the recipe's function.

    Raises:
        ValueError: the recipe takes no such argument (the message names the nearest), or the value is not a number.
    """
    system = find(name)
    accepted = takes(system)
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, _, text = assignment.partition("=")
        if key not in accepted:
            raise ValueError(
                f"{system.name} takes no {key!r}{nearest(key, accepted)}; fields of the tree are written model.x.y=value"
            )
        try:
            result[key] = json.loads(text.lower())
        except json.JSONDecodeError:
            if not isinstance(accepted[key], str):
                raise ValueError(f"{assignment}: expected a number") from None
            result[key] = text
    return result


def takes(system: System) -> dict[str, Any]:
    """The arguments of a recipe's function and their defaults, with those it hands on to its parent's."""
    parameters = inspect.signature(system.function).parameters.values()
    own = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    hands_on = any(p.kind is p.VAR_KEYWORD and p.name == SIZES for p in parameters)
    return (takes(find(system.parent)) if hands_on and system.parent else {}) | own


def shape(recipe: Recipe) -> str:
    """One line such as `6 layers x 384 wide, 10,745,088 parameters`."""
    depth = recipe.model.stack.depth
    return f"{depth} layer{'s' if depth > 1 else ''} × {_dim(recipe)} wide, {recipe.parameters_total:,} parameters"


def _dim(recipe: Recipe) -> int:
    return recipe.model.dim  # type: ignore[attr-defined,no-any-return]


def _widths(system: System, depth: int, parameters: int, vocab: int, fixed: dict[str, Any]) -> list[tuple[Recipe, int]]:
    """The two widths, multiples of the head width, whose counts enclose the wish."""
    step = system.heads_of
    low, high = 1, 2

    def at(multiple: int) -> Recipe:
        return _make(system, depth, multiple * step, vocab, fixed)

    while at(high).parameters_total < parameters and high < 4096:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).parameters_total < parameters else (low, middle)
    return [(at(m), m * step) for m in (low, high)]


def _make(system: System, depth: int, dim: int, vocab: int, fixed: dict[str, Any]) -> Recipe:
    accepted = takes(system)
    head = 64 if dim % 64 == 0 and dim >= 256 else system.heads_of
    sizes = {
        "dim": dim,
        "depth": depth,
        "heads": max(1, dim // head),
        "vocab": vocab,
        **fixed,
    }
    return system.function(**{k: v for k, v in sizes.items() if k in accepted})


def _refusal(system: System, parameters: int, vocab: int, nearest_count: int) -> str:
    least = min(r.parameters_total for r, _ in _widths(system, system.depths[0], 1, vocab, {}))
    if parameters < least:
        return (
            f"{parameters:,} parameters are too few for {system.name}: with a vocabulary of {vocab:,} its smallest shape has "
            f"{least:,}; ask for more, or prepare the data with a smaller vocabulary (--vocab, or --tokenizer bytes)"
        )
    return f"no shape of {system.name} has about {parameters:,} parameters; the nearest has {nearest_count:,}"
