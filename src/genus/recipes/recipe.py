"""Recipe: a published system as a value. Registry: the family tree.

A recipe is a function of size that returns a `Recipe`. The decorator `system` puts it, with its citation, on the tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from genus.objectives.causal import Causal
from genus.recipes.training import Training
from genus.spec import Spec, nearest

BRANCHES = {
    "counting": "Counting",
    "window": "Fixed window",
    "recurrent": "Recurrent",
    "encoder-decoder": "Encoder–decoder",
    "encoder": "Encoder",
    "decoder": "Decoder",
    "fast-weights": "Fast weights and linear attention",
    "hybrid": "Hybrid",
}
SHORT = {  # the word that everybody says for a branch, and the system that stands for it
    "gpt": "gpt2",
    "linear": "linear-transformer",
    "hybrid": "deltanet-hybrid",
    "moe": "mixtral",
}


@dataclass(frozen=True)
class Recipe(Spec):
    """A model, what it learns to do, and how it is trained.

    Attributes:
        model: a `Model` or an `NGram`. objective: what makes its batches and its loss. training: `Training` or `Counting`.
    """

    name: str = ""
    model: Any = None
    objective: Any = Causal()
    training: Any = Training()

    @property
    def parameters_total(self) -> int:
        """Exact number of trainable parameters."""
        return int(self.model.parameters(0))


@dataclass(frozen=True)
class System:
    """A place on the family tree.

    Attributes:
        name: what the command line calls it. branch: one of BRANCHES. title, year, citation: the publication.
        summary, summary_zh: one line each. parent: the system it is derived from. hf: the `model_type` of its counterpart in
        Hugging Face transformers. aspect: width divided by depth that its size rule aims at. heads_of: width per head, or the
        steps in which the width grows where there are none.
        depths: smallest and largest depth that its size rule may choose.
    """

    name: str
    branch: str
    title: str
    year: int
    citation: str
    summary: str
    summary_zh: str
    function: Callable[..., Recipe]
    parent: str | None = None
    hf: str | None = None
    aspect: float = 48.0
    heads_of: int = 32
    depths: tuple[int, int] = (2, 96)

    @property
    def generates(self) -> bool:
        """Whether it is a language model that predicts the next token."""
        return self.branch not in ("encoder", "encoder-decoder")

    @property
    def counted(self) -> bool:
        """Whether it is estimated by counting instead of gradient descent."""
        return self.branch == "counting"


_SYSTEMS: dict[str, System] = {}


def system(**facts: Any) -> Callable[[Callable[..., Recipe]], Callable[..., Recipe]]:
    """Decorator: put the function on the family tree under its own name (underscores become hyphens)."""

    def add(function: Callable[..., Recipe]) -> Callable[..., Recipe]:
        name = function.__name__.replace("_", "-")
        if facts["branch"] not in BRANCHES:
            raise ValueError(f"{name}: no branch {facts['branch']!r}{nearest(facts['branch'], BRANCHES)}")
        _SYSTEMS[name] = System(name=name, function=function, **facts)
        return function

    return add


def find(name: str) -> System:
    """The system called `name`.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    key = name.lower().replace("_", "-")
    if key not in _SYSTEMS:
        raise ValueError(f"there is no recipe {name!r}{nearest(key, _SYSTEMS)} (see: genus recipes)")
    return _SYSTEMS[key]


def systems() -> list[System]:
    """Every system, branch by branch and year by year."""
    order = list(BRANCHES)
    return sorted(_SYSTEMS.values(), key=lambda s: (order.index(s.branch), s.year, s.name))
