"""Family: how one `model_type` of Hugging Face transformers is written down, as data.

`to_recipe` reads a config.json; `to_config` writes one, and may be careless: a model belongs to a family only if the
config that was written gives exactly the same model when it is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from genus.export.rules import Rule
from genus.export.weights import Weights
from genus.parts.attention import Attention
from genus.parts.block import Block, Stack
from genus.parts.embedding import Embedding
from genus.parts.init import Init
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.recipes import Recipe
from genus.spec import Spec, rewrite

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}
"""Names of activations in config.json, and ours."""

WRITTEN = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "silu": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}


class Config(dict[str, Any]):
    """config.json, which says what it lacks."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"config.json has no {key!r}, which a model of type {self.get('model_type')!r} needs")

    def activation(self, key: str, default: str) -> str:
        """Our name of the activation under `key`."""
        name = self.get(key) or default
        if name not in ACTIVATIONS:
            raise ValueError(f"config.json: {key} {name!r} is not known here; known are {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[name]


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    Attributes:
        architecture: the class in transformers. auto: its Auto class.
        prefix: what the names of the bare model's tensors begin with in this class; files without it are accepted.
        rules: names. ignore: patterns of tensors that carry nothing (masks, tables of angles).
        renames: (pattern, replacement) for older spellings.
        only: config keys and the values that are supported; a key that is absent is fine.
        settle: makes config keys say what the weights say, for keys that are known to lie.
    """

    model_type: str
    architecture: str
    to_recipe: Callable[[Config], Recipe]
    to_config: Callable[[Model, int], dict[str, Any] | None]
    rules: tuple[Rule, ...]
    prefix: str = ""
    ignore: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    auto: str = "AutoModelForCausalLM"
    settle: Callable[[Config, Weights], Config] = lambda config, weights: config

    def read(self, config: Mapping[str, Any]) -> Recipe:
        """The recipe that a config.json describes.

        Raises:
            ValueError: a key is missing, or has a value whose effect is not built here.
        """
        config = Config(config)
        for key, allowed in self.only.items():
            if key in config and config[key] not in allowed:
                raise ValueError(
                    f"config.json: {self.model_type} with {key}={config[key]!r} is not supported, "
                    f"only {' or '.join(map(repr, allowed))}"
                )
        return self.to_recipe(config)

    def write(self, spec: Model, context: int) -> dict[str, Any] | None:
        """A config.json for this model, or None when the family cannot express it."""
        try:
            config = self.to_config(spec, context)
            if config is None:
                return None
            config = {"model_type": self.model_type, **config}
            back = self.read(config).model
        except ValueError:
            return None
        return config if canonical(back) == canonical(spec) else None


def canonical(spec: Any) -> Any:
    """The spec as far as it decides what is computed: defaults resolved, training-only fields (dropout, init) dropped."""
    if not isinstance(spec, Model):
        return spec
    dim = spec.dim

    def change(part: Spec) -> Spec:
        match part:
            case Attention():
                return _canonical_attention(part, dim)
            case MLP():
                return part.replace(hidden=part.inner(dim))
            case Block():
                return part.replace(dropout=0.0)
            case Embedding():
                return part.replace(dropout=0.0)
            case Stack():
                return _canonical_stack(part)
            case Model():
                return part.replace(init=Init())
        return part

    return rewrite(spec, change)


def _canonical_attention(a: Attention, dim: int) -> Attention:
    head = a.head_dim or dim // a.heads
    score = a.score
    if score.scale == head**-0.5:
        score = score.replace(scale=None)
    return a.replace(
        kv_heads=a.kv_heads or a.heads,
        head_dim=head,
        out_bias=a.bias if a.out_bias is None else a.out_bias,
        score=score,
        dropout=0.0,
    )


def _canonical_stack(stack: Stack) -> Stack:
    """The shortest pattern that gives the same layers."""
    layers = [stack.blocks[i % len(stack.blocks)] for i in range(stack.depth)]
    for n in range(1, len(stack.blocks) + 1):
        if all(layer == layers[i % n] for i, layer in enumerate(layers)):
            return stack.replace(blocks=tuple(layers[:n]))
    return stack


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
