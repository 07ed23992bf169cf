"""Parametrisation: how initial weights and learning rates follow the width of a model. A policy over roles of parameters.

A role says which dimensions of a parameter grow with the model. It is read off the module tree, so that the policy holds for
every recipe. Assumed: heads keep their width and grow in number; all inner widths keep their proportion to the model's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from genus.parts.block import Stack
from genus.parts.char_cnn import CharCNN
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.model import Model
from genus.parts.moe import MoE
from genus.parts.norm import RMSNorm
from genus.parts.positions import RelativeBias
from genus.parts.task_head import TaskHead, Vectors
from genus.parts.wiring import PostNorm, ResiDual
from genus.spec import Spec

if TYPE_CHECKING:
    from genus.recipes.recipe import Recipe

Role = Literal["table", "input", "hidden", "readout", "vector"]
"""What of a parameter grows with the model's width.

table: the columns; a row is looked up, or a column is a head's. input: the outputs alone, or nothing. hidden: inputs and
outputs, recurrent matrices too. readout: the inputs alone (read-out of the vocabulary, router of experts). vector: a number per
channel or head, and the taps of a convolution.
"""


@dataclass(frozen=True)
class Scale:
    """Factors on what one parameter begins with and on what its optimiser does.

    Attributes:
        start: on the initial values. rate: on the learning rate of Adam. orthogonal: on that of Muon.
        eps: on the constant in Adam's denominator, which is to be as small beside a gradient as at the base width.
    """

    start: float = 1.0
    rate: float = 1.0
    orthogonal: float = 1.0
    eps: float = 1.0


@dataclass(frozen=True)
class Parametrisation(Spec):
    """How start and learning rate follow the width; use one of its children."""

    def rewrite(self, recipe: Recipe) -> Recipe:
        """A new recipe, with what the policy changes in the specification. Not for a model that is already trained."""
        return recipe

    def start(self, model: nn.Module) -> None:
        """Scale freshly drawn weights in place."""

    def scales(self, model: nn.Module) -> dict[str, Scale]:
        """The factors of every parameter, by name."""
        return {name: Scale() for name, _ in model.named_parameters()}

    def rate_parameters(self, recipe: Recipe) -> int:
        """Number of parameters of the model whose learning rate this is."""
        return recipe.parameters_total


@dataclass(frozen=True)
class Standard(Parametrisation):
    """Everything as the recipe says, at every width."""


@dataclass(frozen=True)
class MuP(Parametrisation):
    """Maximal update parametrisation for Adam and Muon (Yang et al. 2022, arXiv:2203.03466, table 3): the best learning rate at
    width `base` is the best at every width. At width `base` nothing differs from Standard.

    With m = base / width: hidden matrices start sqrt(m) and learn m times as fast, read-outs start m and learn m times as fast,
    tables and vectors do not change. No multiplier is left in the forward pass, so that exported models are as ever.

    * A read-out tied to the token table needs a factor m on the logits. It goes into the gain of the norm before the read-out,
      which starts m and learns m times as fast. Where there is no such norm (recurrent recipes) it becomes `head.scale`.
    * A multiplier or a deviation that is itself sqrt(width) or its inverse (Vaswani's embedding, T5's head) is known by its value
      and allowed for.
    * Muon's updates have full rank: hidden matrices learn sqrt(m) times as fast.
    * Decoupled weight decay is divided by the factor on the rate, so that weights fade equally fast at every width.
    * Scores are divided by sqrt(head width), not by the head width: heads do not widen.
    """

    base: int = 128

    def __post_init__(self) -> None:
        if self.base < 1:
            raise ValueError(f"training.parametrisation.base must be a width of 1 or more, not {self.base}")

    def rewrite(self, recipe: Recipe) -> Recipe:
        from genus.recipes.training import SGD  # which has a field of this class

        model = recipe.model
        if isinstance(recipe.training.optimizer, SGD):
            raise ValueError(
                "MuP has rules for Adam and Muon; with SGD the norm of the gradient, which is clipped, grows with the width. "
                "Choose --optimizer adamw, or training.parametrisation=Standard"
            )
        if not _tied(model) or _closes(model.stack, model.head) is not None:
            return recipe
        head = model.head.replace(scale=model.head.scale * self._closing(model))
        return recipe.replace(model=model.replace(head=head))

    @torch.no_grad()
    def start(self, model: nn.Module) -> None:
        for name, scale in self.scales(model).items():
            if scale.start != 1.0:
                owner = model.get_submodule(name.rpartition(".")[0])
                shift = 1.0 if isinstance(owner, RMSNorm.Module) and owner.spec.plus_one else 0.0
                model.get_parameter(name).add_(shift).mul_(scale.start).sub_(shift)

    def scales(self, model: nn.Module) -> dict[str, Scale]:
        spec: Model = model.spec  # type: ignore[assignment]
        m = self.base / spec.dim
        tags = roles(model)
        by_inputs, by_width = spec.init.kind == "fan_in", self._growth(spec.init.std, spec.dim) != 1.0
        scales = {}
        for name, role in tags.items():
            power = {"hidden": 0.5, "readout": 1.0}.get(role, 0.0)
            if role != "vector" and (role != "input" if by_inputs else by_width):
                power -= 0.5  # such a draw falls with the width by itself
            rate = m if role in ("hidden", "readout") else 1.0
            orthogonal = m**0.5 if role == "hidden" else rate
            scales[name] = Scale(m**power, rate, orthogonal, 1.0 if role == "readout" else m)
        multipliers = {"embed.tokens.weight": self._growth(spec.embed.scale, spec.dim)}
        if spec.embed.dim is None and not spec.head.tied:
            multipliers["head.weight"] = self._growth(spec.head.scale, spec.dim)
        norm = _closes(spec.stack, spec.head) if _tied(spec) else None
        if norm is not None:
            c = self._closing(spec)  # on the gain: what follows it is divided by as much
            multipliers |= {name: 1 / c for name, _ in model.named_parameters() if name.rpartition(".")[0] == norm}
        return {name: _multiplied(scale, multipliers.get(name, 1.0)) for name, scale in scales.items()}

    def rate_parameters(self, recipe: Recipe) -> int:
        model = recipe.model
        m = self.base / model.dim
        inner = sum(stack.parameters(model.dim) for stack in (model.stack, model.encoder, model.reverse) if stack)
        return round(inner * m * m + (recipe.parameters_total - inner) * m)

    def _growth(self, multiplier: float, dim: int) -> float:
        """A multiplier divided by what it would be at the base width."""
        for power in (0.5, -0.5):
            if math.isclose(multiplier, dim**power, rel_tol=1e-6):
                return (dim / self.base) ** power
        return 1.0

    def _closing(self, spec: Model) -> float:
        """Factor that a tied read-out still needs for logits that move equally at every width."""
        embed, head = self._growth(spec.embed.scale, spec.dim), self._growth(spec.head.scale, spec.dim)
        return self.base / spec.dim * embed / head


@dataclass(frozen=True)
class LayerDecay(Parametrisation):
    """The learning rate falls by the factor `decay` with every layer further from the output: lower layers are more general and
    are to be disturbed less (Howard & Ruder 2018, section 3.2, "discriminative fine-tuning"; Clark et al. 2020)."""

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"the learning rate's decay per layer must lie above 0 and at most at 1, not {self.decay}")

    def scales(self, model: nn.Module) -> dict[str, Scale]:
        factors = {name: self.decay**far for name, far in distances(model).items()}
        return {name: Scale(rate=f, orthogonal=f) for name, f in factors.items()}


def distances(model: nn.Module) -> dict[str, int]:
    """Layers between each parameter and the output, by name: 0 for what belongs to no layer (read-out, final norm), 1 for the
    last layer, and one more than there are layers for the embedding. An encoder lies below its decoder."""
    depth = {name: len(module.layers) for name, module in model.named_children() if isinstance(module, Stack.Module)}
    below = depth.pop("encoder", 0)
    above = max(depth.values(), default=0)
    result = {}
    for name, _ in model.named_parameters():
        match name.split("."):
            case ["embed", *_]:
                result[name] = above + below + 1
            case ["encoder", "layers", number, *_]:
                result[name] = above + below - int(number)
            case [stack, "layers", number, *_] if stack in depth:
                result[name] = depth[stack] - int(number)
            case _:
                result[name] = 0
    return result


def _multiplied(scale: Scale, multiplier: float) -> Scale:
    """The factors of a parameter that the forward pass multiplies by `multiplier`: what it does is left as it was."""
    if multiplier == 1.0:
        return scale
    k = 1 / multiplier
    return Scale(scale.start * k, scale.rate * k, scale.orthogonal * k, scale.eps * multiplier)


def _tied(spec: Model) -> bool:
    """Whether the read-out is the token table and as wide as the model."""
    return spec.head.tied and spec.embed.dim is None


def _closes(stack: Stack, head: Head | TaskHead | Vectors) -> str | None:
    """Path of the norm whose output only the read-out sees."""
    if head.transform is not None:
        return "head.transform.norm"
    wiring = stack.blocks[0].wiring
    if isinstance(wiring, ResiDual):
        return None  # a second, post-norm stream is added after the final norm
    if stack.final is not None:
        return "stack.final"
    last = (stack.depth - 1) % len(stack.blocks)
    block = stack.blocks[last]
    if isinstance(block.wiring, PostNorm) and block.norm is not None and not stack.share:
        return f"stack.layers.{stack.depth - 1}.norms.{len(block.parts) - 1}"
    return None


def roles(model: nn.Module) -> dict[str, Role]:
    """The role of every parameter, by name (a tied weight under its first)."""
    special: dict[int, Role] = {}

    def tag(role: Role, *parameters: Tensor | None) -> None:
        special.update({id(p): role for p in parameters if p is not None})

    for module in model.modules():
        match module:
            case MoE.Module():
                tag("readout", module.router.weight)
            case RelativeBias.Module():
                tag("table", module.weight)
            case Head.Module() if not module.spec.tied:
                transform = module.spec.transform
                tag("readout" if transform is None or transform.outputs is None else "input", module.weight)
            case Embedding.Module():
                # A table of a width of its own does not grow; what grows is the output of the projection after it.
                for table in (None if module.spec.spelled else module.tokens, module.types, module.positions):
                    tag("table" if module.spec.dim is None else "input", *(table.parameters() if table is not None else ()))
                if module.projection is not None:
                    tag("input", module.projection.weight)
            case CharCNN.Module():
                tag("input", module.symbols.weight, *(p for p in module.convolutions.parameters() if p.dim() > 1))
                tag("hidden", module.projection.weight, *(p for p in module.highway.parameters() if p.dim() > 1))
    result: dict[str, Role] = {}
    for name, p in model.named_parameters():
        matrix = p.dim() > 1 and not getattr(p, "keep_init", False)
        result[name] = special.get(id(p), "hidden" if matrix else "vector")
    return result
