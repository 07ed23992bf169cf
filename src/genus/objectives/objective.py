"""Objective: what every way of learning has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from genus.objectives.batch import Batch
from genus.spec import Spec


@dataclass(frozen=True)
class Objective(Spec):
    """What a model learns to do; use one of its children.

    Class attributes:
        symbols: roles of the special tokens that it writes into its batches ("cls", "sep", "mask", "pad", "sentinel_0", ...).
        reads: what a position of the model may see: the "past" (decoders, recurrent models), "all" of the text (encoders), or
            a "source" and the past (encoder-decoders).
    """

    symbols: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[Literal["past", "all", "source"]] = "past"

    def settle(self, ids: Mapping[str, int]) -> Self:
        """The same objective, knowing the ids of its symbols by role."""
        return self

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
