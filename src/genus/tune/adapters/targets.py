"""Which matrices of a model an adapter changes: read off the module tree, so that the same words hold for every recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from genus.parts.block import Block
from genus.parts.head import Head
from genus.parts.model import Model
from genus.parts.positions import LearnedPositions, RelativeBias
from genus.parts.task_head import TaskHead
from genus.spec import nearest
from genus.tune.unsuitable import Unsuitable

Place = Literal["mixer", "layer", "table", "head", "other"]
"""Where a matrix is used.

mixer: by a token mixer (attention, fast weights, recurrence). layer: by anything else inside a block. table: rows are looked up.
head: by the read-out. other: elsewhere, such as ALBERT's projection of the embedding.
"""
WORDS: dict[str, tuple[Place, ...]] = {"attention": ("mixer",), "all-linear": ("mixer", "layer", "other")}
"""Words for `targets`, beside names and patterns."""
TABLES = (nn.Embedding, LearnedPositions.Module, RelativeBias.Module)
"""Modules whose matrix is looked up by rows."""


@dataclass
class Matrix:
    """One trainable matrix: its name without `.weight`, and every module that has it, under which attribute."""

    name: str
    weight: nn.Parameter
    place: Place
    owners: list[tuple[nn.Module, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def matrices(model: nn.Module) -> dict[str, Matrix]:
    """Every trainable matrix by name; a tied one once, under its first name.

    Raises:
        ValueError: the model has no specification, being counted or foreign.
    """
    if not isinstance(getattr(model, "spec", None), Model):
        raise ValueError(f"{type(model).__name__} has no matrices that are trained; adapters are for neural models")
    places = _places(model)
    found: dict[int, Matrix] = {}
    for path, module in model.named_modules():
        for key, p in module.named_parameters(recurse=False):
            if p.dim() == 2:
                name = ".".join(filter(None, (path, "" if key == "weight" else key)))
                matrix = found.setdefault(id(p), Matrix(name, p, places.get(id(p), "other")))
                matrix.owners.append((module, key))
                matrix.names.append(name)
    return {m.name: m for m in found.values()}


def _places(model: nn.Module) -> dict[int, Place]:
    """What is more special comes later and prevails: a table may be the read-out too."""
    places: dict[int, Place] = {}
    for module in model.modules():
        match module:
            case Block.Module():
                for part in module.parts:
                    place: Place = "mixer" if hasattr(part, "init_state") else "layer"
                    places |= {id(p): place for p in part.parameters()}
            case Head.Module() | TaskHead.Module():
                places |= {id(p): "head" for p in module.parameters()}
    for module in model.modules():
        if isinstance(module, TABLES):
            places |= {id(p): "table" for p in module.parameters()}
    return places


def select(model: nn.Module, targets: Iterable[str]) -> dict[str, Matrix]:
    """The matrices that `targets` names.

    Args:
        targets: "attention" (the matrices of all token mixers, cross-attention and recurrence too), "all-linear" (every matrix
            but tables and the read-out), ends of names such as `q_proj` or `parts.0.q_proj`, or regular expressions that
            match a whole name.

    Raises:
        Unsuitable: a target that no matrix answers to.
    """
    known = matrices(model)
    chosen: dict[str, Matrix] = {}
    for target in targets:
        hits = {name: m for name, m in known.items() if _answers(m, target)}
        if not hits:
            raise Unsuitable(_nothing(target, known))
        chosen |= hits
    return {name: m for name, m in known.items() if name in chosen}


def _answers(matrix: Matrix, target: str) -> bool:
    if target in WORDS:
        return matrix.place in WORDS[target]
    return any(n == target or n.endswith(f".{target}") or _matches(target, n) for n in matrix.names)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ValueError(f"target {pattern!r} is neither the end of a name nor a regular expression: {error}") from error


def _nothing(target: str, known: dict[str, Matrix]) -> str:
    if target in WORDS:
        return f"this model has no matrix that {target!r} means; name some of: {', '.join(_ends(known))}"
    return f"no matrix of this model is called {target!r}{nearest(target, [*WORDS, *_ends(known)])}"


def _ends(known: dict[str, Matrix]) -> list[str]:
    """Ends of names that mean something, without the numbers of a list."""
    return sorted({re.sub(r"(.*\.)?([^.]*[^.\d][^.]*)(\.\d+)*", r"\2", name) for name in known})
