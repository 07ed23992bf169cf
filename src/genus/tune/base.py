"""Base: the model that tuning begins from: a run, a folder in Hugging Face layout, or a recipe with fresh weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from genus.parts.head import Head
from genus.parts.model import Model
from genus.parts.task_head import TaskHead
from genus.recipes.recipe import Recipe
from genus.spec import to_json
from genus.train.choose import with_dropout
from genus.train.grow import grow

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer


@dataclass(frozen=True)
class Base:
    """Where tuning begins.

    Attributes:
        kind: "run", "folder" or "recipe" (fresh weights). recipe: its model, with the read-out that it was trained with.
        tokenizer: frames the texts. path: None for a recipe. weights: by parameter name; None = drawn from the seed.
        task: what the base was already tuned for (`run.json`), or None.
    """

    kind: Literal["run", "folder", "recipe"]
    recipe: Recipe
    tokenizer: Tokenizer
    path: Path | None = None
    weights: dict[str, Tensor] | None = field(default=None, repr=False)
    task: Any = None

    @property
    def name(self) -> str:
        return self.recipe.name or "model" if self.path is None else str(self.path)

    @property
    def types(self) -> int:
        """Segment types that the model tells apart."""
        return int(self.recipe.model.embed.types)

    def spec(self, head: TaskHead | None, dropout: float | None = None) -> Model:
        """The model's specification with another read-out, and with dropout."""
        model: Model = self.recipe.model
        if dropout is not None:
            model = with_dropout(model, dropout)  # type: ignore[assignment]
        return model if head is None else model.replace(head=head)

    def model(self, head: TaskHead | None, seed: int, dropout: float | None = None) -> nn.Module:
        """A fresh copy: the base's weights, and what is new drawn from the seed.

        A pool takes the layer of BERT's own, where the base was trained with one.
        """
        spec = self.spec(head, dropout)
        torch.manual_seed(seed)
        module = spec.build(0)
        if self.weights is None:
            self.recipe.training.parametrisation.start(module)
            return module
        own = dict(module.state_dict(keep_vars=True))
        same = spec.head == self.recipe.model.head
        wanted = {n for n in own if same or not n.startswith("head.")}
        taken = {n: self.weights[n] for n in own if n in self.weights and (n in wanted or self._pooled(n, own[n]))}
        taken |= self._pooler(own)
        lacking = sorted(wanted - set(taken))
        if lacking:
            raise ValueError(f"{self.name} lacks {len(lacking)} weights that its model needs, such as {lacking[0]}")
        with torch.no_grad():
            for name, tensor in taken.items():
                own[name].copy_(tensor)
        return module

    def extended(self, tokenizer: Tokenizer) -> Base:
        """The same base with a tokenizer whose new tokens come after the old; the table grows, and new rows are the mean."""
        spec, weights = grow(self.recipe.model, self.weights or {}, self.tokenizer.vocab_size, tokenizer.vocab_size)
        return replace(
            self, recipe=self.recipe.replace(model=spec), tokenizer=tokenizer, weights=None if self.weights is None else weights
        )

    def _pooled(self, name: str, parameter: Tensor) -> bool:
        """Whether a parameter of the new read-out may be the base's own: the layer of a pool of the same kind."""
        old = self.recipe.model.head
        is_pool = isinstance(old, TaskHead) and name.startswith("head.pool.")
        return is_pool and self.weights is not None and self.weights[name].shape == parameter.shape

    def _pooler(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pool's layer of a base whose vocabulary head has a second read-out (next-sentence prediction)."""
        old = self.recipe.model.head
        if not (isinstance(old, Head) and old.task and old.task.pool and self.weights):
            return {}
        theirs = {
            n.replace("head.task.pool.", "head.pool."): t for n, t in self.weights.items() if n.startswith("head.task.pool.")
        }
        return {n: t for n, t in theirs.items() if n in own and own[n].shape == t.shape}

    def same_task(self, task: Any) -> bool:
        """Whether the base was tuned for this very task, so that its read-out may be kept."""
        return self.task is not None and to_json(task) == self.task
