"""Family: how one `model_type` of Hugging Face transformers is written down, as data.

`to_recipe` reads a config.json; `to_config` writes one, and may be careless: a model belongs to a family only if the
config that was written gives exactly the same model when it is read back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from genus.export.families.canonical import canonical
from genus.export.families.config import Config
from genus.export.families.form import Form
from genus.export.rules import Rule
from genus.export.weights import Weights
from genus.parts.attention import Attention
from genus.parts.block import Block
from genus.parts.embedding import Embedding
from genus.parts.model import Model
from genus.recipes import Recipe
from genus.spec import Spec, rewrite


@dataclass(frozen=True)
class Family:
    """The layers that the classes of one `model_type` have in common, and those classes.

    Attributes:
        stem: what the names of its classes begin with. forms: the classes; a file that names none is of the first.
        prefix: what the names of the layers' tensors begin with in classes that have a head; files without it are accepted.
        rules: names of the layers' tensors, without prefix. ignore: patterns of those that carry nothing (masks, tables).
        renames: (pattern, replacement) for older spellings of whole names.
        only: config keys and the values that are supported; a key that is absent is fine.
        settle: makes config keys say what the weights say, for keys that are known to lie.
    """

    model_type: str
    stem: str
    to_recipe: Callable[[Config], Recipe]
    to_config: Callable[[Model, int], dict[str, Any] | None]
    rules: tuple[Rule, ...]
    forms: tuple[Form, ...]
    prefix: str = ""
    ignore: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    settle: Callable[[Config, Weights], Config] = lambda config, weights: config

    @property
    def architectures(self) -> list[Architecture]:
        """Its classes."""
        return [Architecture(self, form) for form in self.forms]


@dataclass(frozen=True)
class Architecture:
    """One class of transformers."""

    family: Family
    form: Form

    @property
    def name(self) -> str:
        """The class."""
        return self.family.stem + self.form.suffix

    @property
    def auto(self) -> str:
        """Its Auto class."""
        return "AutoModel" + (self.form.suffix if self.form.auto is None else self.form.auto)

    @property
    def model_type(self) -> str:
        return self.family.model_type

    @property
    def renames(self) -> tuple[tuple[str, str], ...]:
        """See `Family`."""
        return self.family.renames

    @property
    def prefix(self) -> str:
        """What the names of the layers' tensors begin with."""
        return self.family.prefix if self.form.prefix is None else self.form.prefix

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Names of all its tensors."""
        return (*(replace(rule, theirs=self.prefix + rule.theirs) for rule in self.family.rules), *self.form.rules)

    @property
    def ignore(self) -> tuple[str, ...]:
        """Patterns of tensors that may be left over."""
        return (*(re.escape(self.prefix) + pattern for pattern in self.family.ignore), *self.form.ignore)

    def read(self, config: Mapping[str, Any]) -> Recipe:
        """The recipe that a config.json describes.

        Raises:
            ValueError: a key is missing, or has a value whose effect is not built here.
        """
        config = Config(config, architectures=[self.name])
        for key, allowed in self.family.only.items():
            if key in config and config[key] not in allowed:
                raise ValueError(
                    f"config.json: {self.model_type} with {key}={config[key]!r} is not supported, "
                    f"only {' or '.join(map(repr, allowed))}"
                )
        recipe = self.family.to_recipe(config)
        return recipe.replace(model=recipe.model.replace(head=self.form.head(config, recipe.model.head)))

    def write(self, spec: Model, context: int) -> dict[str, Any] | None:
        """A config.json for this model, or None when the class cannot express it."""
        try:
            config = self.family.to_config(spec, context)
            if config is None:
                return None
            config = {"architectures": [self.name], "model_type": self.model_type, **config, **self.form.config(spec.head)}
            back = self.read(config).model
        except ValueError:
            return None
        return config if canonical(back) == canonical(spec) else None


def dropouts(model: Model, embedding: float, attention: float, sublayer: float) -> Model:
    """The model with these three rates everywhere."""

    def change(part: Spec) -> Spec:
        match part:
            case Embedding():
                return part.replace(dropout=float(embedding))
            case Attention():
                return part.replace(dropout=float(attention))
            case Block():
                return part.replace(dropout=float(sublayer))
        return part

    return rewrite(model, change)  # type: ignore[no-any-return]


def replaced(recipe: Recipe, kind: type[Spec], **changes: Any) -> Recipe:
    """The recipe with fields of every part of class `kind` changed."""
    return recipe.replace(model=rewrite(recipe.model, lambda p: p.replace(**changes) if isinstance(p, kind) else p))
