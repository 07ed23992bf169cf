"""Objective: what every way of learning has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from genus.objectives.batch import Batch
from genus.parts.model import Model
from genus.spec import Spec, walk

Reads = Literal["past", "all", "source"]

SEES: dict[Reads, str] = {
    "past": "only what came before (a decoder, a recurrent model)",
    "all": "all of the text (an encoder such as bert)",
    "source": "a source and its own past (an encoder-decoder such as t5)",
}


@dataclass(frozen=True)
class Objective(Spec):
    """What a model learns to do; use one of its children.

    Class attributes:
        symbols: roles of the special tokens that it writes into its batches ("cls", "sep", "mask", "pad", "sentinel_0", ...).
        reads: what a position of the model may see: the "past" (decoders, recurrent models), "all" of the text (encoders), or
            a "source" and the past (encoder-decoders).
        pairs: whether its rows are pairs of texts, of `genus prepare --pairs`.
        likelihood: whether the losses of a text add up to -log of its probability, so that there are bits per byte.
    """

    symbols: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[Reads] = "past"
    pairs: ClassVar[bool] = False
    likelihood: ClassVar[bool] = False

    @property
    def marks_words(self) -> bool:
        """Whether its rows must say where words begin."""
        return False

    def settle(self, ids: Mapping[str, int]) -> Self:
        """The same objective, knowing ids by role: those of its symbols, "bos" and "eos"; and "vocab", how many there are."""
        return self

    def refusal(self, model: Model) -> str | None:
        """Why this model cannot learn it; None when it can."""
        found = sees(model)
        if found == self.reads:
            return None
        return f"the objective {type(self).__name__} needs a model that sees {SEES[self.reads]}; this one sees {SEES[found]}"

    def batch(self, rows: Any, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """What a loader gives, as a batch. Everything random comes from `rng`. `stream`: rows continue the batch before."""
        raise NotImplementedError

    def loss(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Sum of the losses over the batch's targets, and their number."""
        raise NotImplementedError

    def measure(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What an evaluation tells of a batch, each as a sum and a count: "loss" first."""
        return {"loss": self.loss(model, batch, state, dtype)}

    def flops(self, model: Any, length: int) -> float:
        """Forward operations of a `Model` per token that it reads, at `length` positions."""
        return float(model.flops(0, length))


def sees(model: Model) -> Reads:
    """What a position of the model may see."""
    if model.encoder is not None:
        return "source"
    around = any(not getattr(p, "causal", True) and not getattr(p, "cross", False) for p in walk(model.stack))
    return "all" if around else "past"
