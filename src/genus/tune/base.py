"""Base: the model that tuning begins from: a run, a folder in Hugging Face layout, or a recipe with fresh weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from genus.modalities.spelling import spell
from genus.parts.head import Head
from genus.parts.model import Model
from genus.parts.task_head import TaskHead, Vectors
from genus.prepare.tokenizer import build
from genus.recipes import arguments, find, make, shape
from genus.recipes.recipe import Recipe
from genus.run import load
from genus.spec import apply_overrides, from_json, to_json
from genus.train import choose
from genus.train.choose import with_dropout
from genus.train.grow import grow
from genus.train.options import split_overrides
from genus.tune.options import TuneOptions
from genus.tune.reading import reads

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

CONTEXT = 512  # most tokens of a text, where neither the user nor the model says less
SMALLEST, LARGEST = 300_000, 20_000_000  # parameters of a recipe whose size nobody names
Say = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """Where tuning begins.

    Attributes:
        kind: "run", "folder" or "recipe" (fresh weights). recipe: its model, with the read-out that it was trained with.
        tokenizer: frames the texts. path: None for a recipe. weights: by parameter name; None = drawn from the seed.
        task: what the base was already tuned for (`run.json`), or None. new: tokens that it has not met, added by `extended`.
    """

    kind: Literal["run", "folder", "recipe"]
    recipe: Recipe
    tokenizer: Tokenizer
    path: Path | None = None
    weights: dict[str, Tensor] | None = field(default=None, repr=False)
    task: Any = None
    new: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        if self.path is None:
            return self.recipe.name or "model"
        place = self.path.resolve()
        return place.parent.name if place.name == "model" else place.name

    def limit(self, options: TuneOptions) -> int:
        """Most tokens of a text.

        Raises:
            ValueError: the user wants more than the model has positions for.
        """
        most: int | None = self.recipe.model.context
        if options.context and most and options.context > most:
            raise ValueError(f"{self.name} has {most} positions; choose --context {most} or less, not {options.context}")
        return options.context or min(most or CONTEXT, CONTEXT)

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

    def model(self, head: TaskHead | None, seed: int, dropout: float | None = None, keep: bool = False) -> nn.Module:
        """A fresh copy: the base's weights, and what is new drawn from the seed.

        A pool takes the layer of BERT's own, where the base was trained with one. `keep`: the base's read-out is for this task.
        """
        spec = self.spec(head, dropout)
        torch.manual_seed(seed)
        module = spec.build(0)
        if self.weights is None:
            spell(module, self.tokenizer)
            self.recipe.training.parametrisation.start(module)
            return module
        own = dict(module.state_dict(keep_vars=True))
        same = head is None or (keep and spec.head == self.recipe.model.head)
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
        known, now = self.tokenizer.vocab_size, tokenizer.vocab_size
        spec, weights = grow(self.recipe.model, self.weights or {}, known, now)
        return replace(
            self,
            recipe=self.recipe.replace(model=spec),
            tokenizer=tokenizer,
            weights=None if self.weights is None else weights,
            new=(*self.new, *range(known, now)),
        )

    def _pooled(self, name: str, parameter: Tensor) -> bool:
        """Whether a parameter of the new read-out may be the base's own: the layer of a pool of the same kind."""
        old = self.recipe.model.head
        is_pool = isinstance(old, TaskHead | Vectors) and name.startswith("head.pool.")
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


def find_base(source: str | Path, texts: Callable[[], Iterable[str]], options: TuneOptions, say: Say) -> Base:
    """What BASE means: a run or a model folder where the path exists, else a recipe.

    Args:
        texts: gives the labelled texts, for the tokenizer and the size of a recipe.

    Raises:
        ValueError: it holds a model that is counted, or one without a tokenizer; or there is no such recipe.
    """
    if Path(source).exists():
        return _taken_up(Path(source), options, say)
    return _from_recipe(find(str(source)).name, texts, options, say)


def _taken_up(path: Path, options: TuneOptions, say: Say) -> Base:
    if options.overrides:
        raise ValueError(f"{path} is a trained model, whose shape is what it is; leave out {' '.join(options.overrides)}")
    loaded = load(path)
    if not isinstance(loaded.spec, Model):
        raise ValueError(f"{path} holds a model that is counted, which has nothing to tune; choose one that was trained")
    if loaded.tokenizer is None:
        raise ValueError(f"{path} has no tokenizer.json, so its model cannot read the texts; put its tokenizer beside it")
    saved = loaded.config.get("recipe")
    recipe = from_json(saved) if saved else Recipe(path.name)
    recipe = recipe.replace(model=loaded.spec)
    kind: Literal["run", "folder"] = "run" if loaded.config else "folder"
    say(f"base: {recipe.name or 'model'} from {path}, {recipe.parameters_total:,} parameters")
    weights = {name: tensor.detach() for name, tensor in loaded.model.state_dict().items()}
    return Base(kind, recipe, loaded.tokenizer, path, weights, loaded.config.get("task"))


def _from_recipe(name: str, texts: Callable[[], Iterable[str]], options: TuneOptions, say: Say) -> Base:
    tokenizer, tokens = _vocabulary(texts, options, say)
    sizes_given, fields = split_overrides(options.overrides)
    given = arguments(name, sizes_given)
    plain = make(name, vocab=tokenizer.vocab_size)
    if not isinstance(plain.model, Model):
        raise ValueError(f"{name} is counted, not trained, and has nothing to tune; choose a neural recipe (genus recipes)")
    roles = tuple(plain.objective.symbols) or (("cls", "sep") if reads(plain.model) == "all" else ())
    tokenizer = tokenizer.extended(roles)
    sizes = {"vocab": tokenizer.vocab_size, "context": options.context or CONTEXT, **given}
    shaped = bool(given) or any(f.startswith(choose.SHAPE_FIELDS) for f in fields)
    wish = min(max(tokens, SMALLEST), LARGEST)
    recipe = make(name, **sizes) if shaped else choose.fit_or_smallest(name, wish, sizes)
    recipe = apply_overrides(recipe, fields).replace(name=name)
    say(f"base: {name} with fresh weights, {shape(recipe)}: it learns from the labels alone")
    return Base("recipe", recipe, tokenizer)


def _vocabulary(texts: Callable[[], Iterable[str]], options: TuneOptions, say: Say) -> tuple[Tokenizer, int]:
    """A tokenizer, and about how many tokens of it the labelled texts have."""
    size = sum(len(text.encode()) for text in texts())
    if options.unlabelled:
        from genus.prepare.dataset import Dataset

        data = Dataset.open(options.unlabelled)
        say(f"tokenizer: that of {options.unlabelled}, {data.tokenizer.vocab_size:,} entries")
        return data.tokenizer, round(size / max(1e-9, data.manifest["bytes_per_token"]))
    made = build("bpe", texts(), size)
    say(f"tokenizer: byte-level BPE of {made.vocab_size:,} entries, made from the labelled texts ({size:,} bytes)")
    return made, round(size / 4)
