"""Every recipe at a tiny size: what the property runner is run over.

A recipe joins by being registered; nothing here names one, except where a property is not meant for it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genus import recipes
from genus.parts.attention import Attention
from genus.parts.ctx import PADDING
from genus.parts.model import Model
from genus.parts.ngram import NGram
from genus.recipes.recipe import Recipe
from genus.spec import Spec, walk
from genus.train.kneser_ney import estimate

VOCAB, BOS = 61, 0
SIZES: dict[str, Any] = {
    "dim": 32,
    "depth": 2,
    "heads": 4,
    "vocab": VOCAB,
    "context": 128,
    "window": 5,
    "experts": 4,
    "order": 4,
}


@dataclass(frozen=True)
class Case:
    """One recipe, built.

    Attributes:
        kind: "decoder" (any left-to-right model), "encoder", "encoder-decoder" or "counting".
    """

    name: str
    kind: str
    recipe: Recipe
    model: Any

    @property
    def spec(self) -> Spec:
        return self.recipe.model

    def text(self, rows: int, time: int, seed: int = 1) -> Tensor:
        """Random ids (rows, time) that begin with BOS and hold no other."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(1, VOCAB, (rows, time), generator=generator)
        ids[:, 0] = BOS
        return ids

    def __call__(self, ids: Tensor, doc: Tensor | None = None, **options: Any) -> Tensor:
        """Logits; an encoder-decoder reads the text backwards as its source, unless one is given."""
        if self.kind == "encoder-decoder" and "source" not in options and "state" not in options:
            options |= {"source": ids.flip(1), "source_doc": None if doc is None else doc.flip(1)}
        return self.model(ids, doc, **options)  # type: ignore[no-any-return]

    def loss(self, ids: Tensor, targets: Tensor, doc: Tensor | None = None) -> tuple[Tensor, Tensor]:
        source: dict[str, Any] = {}
        if self.kind == "encoder-decoder":
            source = {"source": ids.flip(1), "source_doc": None if doc is None else doc.flip(1)}
        return self.model.head.loss(self.model.hidden(ids, doc, **source), targets)  # type: ignore[no-any-return]

    def whole_loss(self, ids: Tensor, targets: Tensor, doc: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`loss`, and that of a second direction or of a second read-out, so that every parameter has its part in it."""
        total, count = self.loss(ids, targets, doc)
        if getattr(self.spec, "reverse", None) is not None:
            total = total + self.model.head.loss(self.model.hidden_reverse(ids, doc), targets)[0]
        if getattr(self.model.head, "task", None) is not None:
            first = torch.zeros(len(ids), dtype=torch.int64) if doc is None else (doc != PADDING).int().argmax(1)
            vectors = self.model.hidden(ids, doc)[torch.arange(len(ids)), first]
            total = total - self.model.head.task(vectors[:, None]).log_softmax(-1)[:, 1].sum()
        return total, count


def kind_of(spec: Spec) -> str:
    if not isinstance(spec, Model):
        return "counting"
    if spec.encoder is not None:
        return "encoder-decoder"
    mixers = [part for part in walk(spec.stack) if isinstance(part, Attention)]
    return "encoder" if mixers and not any(m.causal for m in mixers) else "decoder"


def traits(spec: Spec) -> set[str]:
    """The kind, and "history" where a state grows with the text (attention, and the n-gram's window of ids)."""
    history = kind_of(spec) == "counting" or any(isinstance(part, Attention) for part in walk(spec))
    return {kind_of(spec), *(["history"] if history else [])}


def tiny(name: str, **changes: Any) -> Recipe:
    """The recipe at the smallest size that still has every one of its layers."""
    accepted = inspect.signature(recipes.get(name).function).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    own = {"window", "experts", "order"}  # asked for by name only
    sizes = {k: v for k, v in (SIZES | changes).items() if k in accepted or (anything and k not in own)}
    recipe = recipes.make(name, **sizes)
    if isinstance(recipe.model, Model):
        stack = recipe.model.stack
        recipe = recipe.replace(model=recipe.model.replace(stack=stack.replace(depth=max(stack.depth, len(stack.blocks)))))
    return recipe


@cache
def case(name: str) -> Case:
    recipe = tiny(name)
    kind = kind_of(recipe.model)
    torch.manual_seed(0)
    model = _count(recipe.model) if isinstance(recipe.model, NGram) else recipe.model.build(0)
    if kind != "counting":
        _liven(model)
    return Case(name, kind, recipe, model.eval())


@torch.no_grad()
def _liven(model: torch.nn.Module) -> None:
    """Weights at which every part has something to say: those of a new model are so small that mistakes drown in rounding."""
    for p in model.parameters():
        if p.dim() > 1:
            if not getattr(p, "keep_init", False):
                p.normal_(0.0, p.shape[-1] ** -0.5)
        else:
            p.add_(torch.randn_like(p) * 0.2)


class _Counted:
    """A split of random documents for the n-gram."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        lengths = rng.integers(5, 40, 60)
        self.ends = lengths.cumsum()
        self.tokens = int(self.ends[-1])
        self._ids = rng.integers(1, VOCAB, self.tokens).astype(np.uint16)
        self._ids[self.ends - 1] = BOS

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._ids[start:stop]


_folders = []  # kept open while the tables are memory-mapped


def _count(spec: NGram) -> Any:
    _folders.append(TemporaryDirectory())
    return estimate(_Counted(), spec.order, VOCAB, BOS, BOS, Path(_folders[-1].name) / "ngram", workers=1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="renew golden.json instead of comparing with it (use with -n 0)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`case` runs over every recipe but those that the test's `exempt` mark names, each with its reason."""
    if "case" not in metafunc.fixturenames:
        return
    exempt = {trait for mark in metafunc.definition.iter_markers("exempt") for trait in mark.args}
    only = {trait for mark in metafunc.definition.iter_markers("only") for trait in mark.args}
    names = [n for n in recipes.names() if not traits(tiny(n).model) & exempt and only <= traits(tiny(n).model)]
    metafunc.parametrize("case", names, indirect=True)


@pytest.fixture(name="case")
def _case(request: pytest.FixtureRequest) -> Case:
    return case(request.param)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exempt(trait, reason=): the models this property is not meant for")
    config.addinivalue_line("markers", "only(trait): the models this property is meant for")
    config.addinivalue_line("markers", "gradients: runs with gradients, which the runner switches off otherwise")
