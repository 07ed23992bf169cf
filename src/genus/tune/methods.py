"""Method: which of a model's parameters learn from the labels, and how fast."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from genus.spec import Spec, nearest

if TYPE_CHECKING:
    from genus.recipes.recipe import Recipe
    from genus.tune.options import TuneOptions


@dataclass(frozen=True)
class Method(Spec):
    """A way of tuning; use one of its children.

    Class attributes:
        name: what `--method` calls it. rate: factor on the learning rate that full tuning would use.
    """

    name: ClassVar[str] = ""
    rate: ClassVar[float] = 1.0

    def apply(self, model: nn.Module, recipe: Recipe) -> None:
        """Change the model in place before training: wrap modules, set `requires_grad`. `recipe`: what the model is."""

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """Factors on the learning rate by parameter name; 1 for what is not named."""
        return {}

    def save(self, model: nn.Module, folder: Path, recipe: Recipe) -> None:
        """Write what the method added, before `finish` merges it; `folder` is the run's."""

    def finish(self, model: nn.Module) -> None:
        """Make the model an ordinary one of its spec again, in place."""


@dataclass(frozen=True)
class Full(Method):
    """All parameters learn. `layer_decay`: factor on the rate for each layer further down (Howard & Ruder 2018)."""

    name: ClassVar[str] = "full"
    layer_decay: float = 1.0

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        if self.layer_decay == 1.0:
            return {}
        return {n: self.layer_decay**distance for n, distance in distances(model).items() if distance}


@dataclass(frozen=True)
class Frozen(Method):
    """Only the new read-out learns; the model gives features."""

    name: ClassVar[str] = "frozen"
    rate: ClassVar[float] = 10.0

    def apply(self, model: nn.Module, recipe: Recipe) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith("head.")


def distances(model: nn.Module) -> dict[str, int]:
    """How many layers below the read-out each parameter stands: 0 for the head, 1 for the last layer, depth + 1 for tables."""
    depth = {
        stack: 1
        + max((int(m[1]) for n, _ in model.named_parameters() if (m := re.match(rf"{stack}\.layers\.(\d+)\.", n))), default=-1)
        for stack in ("stack", "encoder")
    }
    above = {"stack": 0, "encoder": depth["stack"]}
    found = {}
    for name, _ in model.named_parameters():
        stack = name.partition(".")[0]
        layer = re.match(r"(stack|encoder)\.layers\.(\d+)\.", name)
        if layer:
            found[name] = above[stack] + depth[stack] - int(layer[2])
        elif stack == "embed":
            found[name] = depth["stack"] + depth["encoder"] + 1
        else:
            found[name] = 0
    return found


METHODS: dict[str, Callable[[TuneOptions], Method]] = {
    "full": lambda options: Full(options.layer_decay),
    "frozen": lambda options: Frozen(),
}
"""By the word of `--method`; an adapter adds itself here."""


def method(options: TuneOptions) -> Method:
    """The method that the options ask for.

    Raises:
        ValueError: there is none of that name.
    """
    if options.method not in METHODS:
        raise ValueError(f"there is no method {options.method!r}{nearest(options.method, METHODS)}")
    return METHODS[options.method](options)


def trainable(model: nn.Module) -> int:
    """Number of parameters that learn."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
