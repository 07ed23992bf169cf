"""Learning from labels: a class or a number for a text, a class for each token, or where an answer begins and ends.

Shapes: B batch, T time, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.objectives.batch import Batch
from genus.objectives.objective import Objective
from genus.ops.cross_entropy import IGNORE
from genus.parts.ctx import PADDING


@dataclass(frozen=True)
class Labelled(Objective):
    """Makes batches of examples; use one of its children.

    An example has `ids` (tokens), `types` (segment types, or empty) and `label`.

    Attributes:
        start: for an encoder-decoder: its encoder reads the text, and its decoder this token and then the text but for its last.
    """

    reads: ClassVar[Literal["past", "all", "source"]] = "all"
    start: int | None = None

    def targets(self, labels: Sequence[Any], length: int) -> Tensor:
        """The labels of the examples as one tensor."""
        raise NotImplementedError

    def batch(self, rows: Any, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """Examples, padded to the longest."""
        examples = list(rows)
        length = max(1, *(len(e.ids) for e in examples))
        ids = torch.zeros(len(examples), length, dtype=torch.int64)
        doc = torch.full((len(examples), length), PADDING, dtype=torch.int64)
        types = torch.zeros_like(ids) if any(len(e.types) for e in examples) else None
        for i, e in enumerate(examples):
            ids[i, : len(e.ids)] = torch.as_tensor(e.ids)
            doc[i, : len(e.ids)] = 0
            if types is not None and len(e.types):
                types[i, : len(e.types)] = torch.as_tensor(e.types)
        targets = self.targets([e.label for e in examples], length)
        given = None if all(len(e.ids) == length for e in examples) else doc
        if self.start is None:
            return Batch(ids, targets, given, types)
        inputs = torch.cat([torch.full_like(ids[:, :1], self.start), ids[:, :-1]], dim=1)
        return Batch(inputs, targets, given, source=ids, source_doc=given)


@dataclass(frozen=True)
class Classify(Labelled):
    """The class of a text: -log p(class)."""

    def targets(self, labels: Sequence[Any], length: int) -> Tensor:
        return torch.tensor(labels, dtype=torch.int64)

    def loss(
        self, model: Any, batch: Batch, state: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p(class) in nats, and the number of texts that have one."""
        logits = outputs(model, batch, dtype)
        total = F.cross_entropy(logits.flatten(0, -2), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum")
        return total, (batch.targets != IGNORE).sum()


@dataclass(frozen=True)
class Tag(Classify):
    """The class of each token that has one."""

    def targets(self, labels: Sequence[Any], length: int) -> Tensor:
        rows = torch.full((len(labels), length), IGNORE, dtype=torch.int64)
        for i, label in enumerate(labels):
            rows[i, : len(label)] = torch.as_tensor(label)
        return rows


@dataclass(frozen=True)
class Regress(Labelled):
    """A number for a text: half the squared error of the number in units of its spread.

    Attributes:
        mean, spread: of the numbers that were learnt from.
    """

    mean: float = 0.0
    spread: float = 1.0

    def targets(self, labels: Sequence[Any], length: int) -> Tensor:
        return torch.tensor(labels, dtype=torch.float32)

    def loss(
        self, model: Any, batch: Batch, state: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Sum over the texts that have a number, and how many they are. The head gives the number itself, not in units."""
        given = batch.targets.isfinite()
        numbers = outputs(model, batch, dtype)[:, 0]
        errors = (numbers - batch.targets)[given] / self.spread
        return 0.5 * errors.square().sum(), given.sum()


@dataclass(frozen=True)
class Extract(Labelled):
    """Where an answer begins and ends: -log p(first token) - log p(last token) (Devlin et al. 2019, section 4.2)."""

    def targets(self, labels: Sequence[Any], length: int) -> Tensor:
        return torch.tensor(labels, dtype=torch.int64).reshape(-1, 2)

    def loss(
        self, model: Any, batch: Batch, state: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Sum over beginnings and ends, and their number."""
        logits = outputs(model, batch, dtype)
        if batch.doc is not None:
            logits = logits.masked_fill((batch.doc == PADDING)[..., None], float("-inf"))
        total = F.cross_entropy(
            logits.transpose(1, 2).flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum"
        )
        return total, (batch.targets != IGNORE).sum()


def outputs(model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the model's read-out gives for a batch: (B, K), or (B, T, K)."""
    return model(  # type: ignore[no-any-return]
        batch.inputs, batch.doc, source=batch.source, source_doc=batch.source_doc, types=batch.types, dtype=dtype
    )
