"""Method: which of a model's parameters learn from the labels, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from genus.parts.head import Head
from genus.recipes.parametrisation import LayerDecay, distances
from genus.run import model_folder
from genus.spec import Spec, nearest
from genus.train.grow import TABLES
from genus.tune import adapters

if TYPE_CHECKING:
    from genus.recipes.recipe import Recipe
    from genus.tune.options import TuneOptions

ADAPTER = "adapter"  # of a run: what a method added to its base, in peft's format


@dataclass(frozen=True)
class Method(Spec):
    """A way of tuning; use one of its children.

    Class attributes:
        name: what `--method` calls it.
    """

    name: ClassVar[str] = ""

    @property
    def rate(self) -> float:
        """Factor on the learning rate that full tuning would use."""
        return 1.0

    def apply(self, model: nn.Module, recipe: Recipe, new: Sequence[int] = ()) -> None:
        """Change the model in place before training: wrap modules, set `requires_grad`.

        Args:
            recipe: what the model is. new: tokens that the base has not met.
        """

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """Factors on the learning rate by parameter name; 1 for what is not named."""
        return {}

    def save(self, model: nn.Module, folder: Path, base: Path | None, problem: str | None) -> None:
        """Write what the method added, before `finish` merges it.

        Args:
            folder: the run's. base: the run or folder that was tuned. problem: what a new read-out is for; see `export.labels`.
        """

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
        return {name: scale.rate for name, scale in LayerDecay(self.layer_decay).scales(model).items()}


@dataclass(frozen=True)
class Frozen(Method):
    """Lower layers stay as they are.

    Attributes:
        up_to: how many, from the bottom, with the embedding; None = all but the read-out, so that the model gives features.
    """

    name: ClassVar[str] = "frozen"
    up_to: int | None = None

    @property
    def rate(self) -> float:
        return 10.0 if self.up_to is None else 1.0

    def apply(self, model: nn.Module, recipe: Recipe, new: Sequence[int] = ()) -> None:
        far = distances(model)
        layers = max(far.values()) - 1
        if self.up_to is not None and not 0 <= self.up_to <= layers:
            raise ValueError(f"the model has {layers} layers; freeze 0 to {layers} of them, not {self.up_to}")
        for name, parameter in model.named_parameters():
            learns = name.startswith("head.") if self.up_to is None else far[name] <= layers - self.up_to
            parameter.requires_grad_(learns)

    def finish(self, model: nn.Module) -> None:
        model.requires_grad_(True)


@dataclass(frozen=True)
class LoRA(Method):
    """Low-rank changes of matrices that stay as they are (Hu et al. 2022), and what is new: a read-out, the rows of new tokens.

    Attributes:
        rank, alpha: the change is alpha / rank B A. dropout: on what A reads. targets: which matrices; see `adapters.select`.
    """

    name: ClassVar[str] = "lora"
    dora: ClassVar[bool] = False
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"a change needs a rank of at least 1, not {self.rank}")

    @property
    def rate(self) -> float:
        return 10.0

    def apply(self, model: nn.Module, recipe: Recipe, new: Sequence[int] = ()) -> None:
        chosen = adapters.select(model, self.targets)
        scale = self.alpha / self.rank
        changes: dict[str, adapters.Change] = {
            n: adapters.LowRank(m.weight, self.rank, scale, self.dropout, self.dora) for n, m in chosen.items()
        }
        if new:
            tables = {n: m for n, m in adapters.matrices(model).items() if f"{n}.weight" in TABLES and n not in chosen}
            changes |= {n: adapters.TokenRows(m.weight, new) for n, m in tables.items()}
        adapters.attach(model, changes)
        if not isinstance(recipe.model.head, Head):
            model.get_submodule("head").requires_grad_(True)

    def save(self, model: nn.Module, folder: Path, base: Path | None, problem: str | None) -> None:
        from genus.tune.adapters.peft import save_peft

        save_peft(folder / ADAPTER, model, None if base is None else model_folder(base)[0], problem)

    def finish(self, model: nn.Module) -> None:
        adapters.merge(model)
        adapters.detach(model)


@dataclass(frozen=True)
class DoRA(LoRA):
    """LoRA that changes directions alone, while the length of every row of a matrix learns by itself (Liu et al. 2024)."""

    name: ClassVar[str] = "dora"
    dora: ClassVar[bool] = True


METHODS: dict[str, Callable[[TuneOptions], Method]] = {
    "full": lambda options: Full(options.layer_decay),
    "frozen": lambda options: Frozen(),
    "lora": lambda options: LoRA(options.rank, options.alpha, targets=options.targets or LoRA.targets),
    "dora": lambda options: DoRA(options.rank, options.alpha, targets=options.targets or DoRA.targets),
}
"""By the word of `--method`."""


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
