"""Learning from labels: a class or a number for a text, a class for each token, or where an answer begins and ends.

Shapes: B batch, T time, N texts, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.objectives.batch import Batch
from genus.objectives.objective import Objective
from genus.ops.cross_entropy import IGNORE
from genus.ops.document_attention import stretches
from genus.parts.ctx import PADDING


@dataclass(frozen=True)
class Labelled(Objective):
    """Makes batches of examples; use one of its children.

    An example has `ids` (tokens), `types` (segment types, or empty) and `label`.

    Class attributes:
        whole: whether a label belongs to a whole text, so that rows may hold several texts.

    Attributes:
        start: for an encoder-decoder: its encoder reads the text, and its decoder this token and then the text but for its last.
        pack: texts stand one after the other in as few rows of about so many tokens as they need, and nothing is padding; the
            target stands at a text's first position. 0 = every text has a row of its own.
    """

    reads: ClassVar[Literal["past", "all", "source"]] = "all"
    whole: ClassVar[bool] = False
    start: int | None = None
    pack: int = 0

    def targets(self, labels: Sequence[Any], length: int) -> Tensor:
        """The labels of the examples as one tensor."""
        raise NotImplementedError

    def batch(self, rows: Any, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """Examples, padded to the longest or packed."""
        examples = list(rows)
        if self.pack and self.whole and self.start is None and all(len(e.ids) for e in examples):
            return self._packed(examples)
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

    def _packed(self, examples: Sequence[Any]) -> Batch:
        """Texts in their order, the tokens shared out evenly among the rows."""
        rest = sum(len(e.ids) for e in examples)
        rows: list[list[Any]] = [[]]
        left = -(-rest // self.pack)
        room = rest / left
        for e in examples:
            if rows[-1] and left > 1 and room < len(e.ids) / 2:  # the row that is nearer to its share
                rows.append([])
                left -= 1
                room = rest / left
            rows[-1].append(e)
            room -= len(e.ids)
            rest -= len(e.ids)
        length = max(sum(len(e.ids) for e in row) for row in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.int64)
        doc = torch.full_like(ids, PADDING)
        types = torch.zeros_like(ids) if any(len(e.types) for e in examples) else None
        labels = self.targets([e.label for e in examples], length)
        targets = labels.new_full(ids.shape, math.nan if labels.is_floating_point() else IGNORE)
        known = iter(labels)
        for i, row in enumerate(rows):
            start = 0
            for number, e in enumerate(row):
                stop = start + len(e.ids)
                ids[i, start:stop] = torch.as_tensor(e.ids)
                doc[i, start:stop] = number
                if types is not None and len(e.types):
                    types[i, start:stop] = torch.as_tensor(e.types)
                targets[i, start] = next(known)
                start = stop
        return Batch(ids, targets, doc, types)


@dataclass(frozen=True)
class Classify(Labelled):
    """The class of a text: -log p(class)."""

    whole: ClassVar[bool] = True

    def targets(self, labels: Sequence[Any], length: int) -> Tensor:
        return torch.tensor(labels, dtype=torch.int64)

    def loss(
        self, model: Any, batch: Batch, state: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p(class) in nats, and the number of texts that have one."""
        logits = outputs(model, batch, dtype)
        targets = said(batch) if self.whole else batch.targets
        total = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORE, reduction="sum")
        return total, (targets != IGNORE).sum()


@dataclass(frozen=True)
class Tag(Classify):
    """The class of each token that has one."""

    whole: ClassVar[bool] = False

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

    whole: ClassVar[bool] = True
    mean: float = 0.0
    spread: float = 1.0

    def targets(self, labels: Sequence[Any], length: int) -> Tensor:
        return torch.tensor(labels, dtype=torch.float32)

    def loss(
        self, model: Any, batch: Batch, state: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Sum over the texts that have a number, and how many they are. The head gives the number itself, not in units."""
        targets = said(batch)
        given = targets.isfinite()
        numbers = outputs(model, batch, dtype)[:, 0]
        errors = (numbers - targets)[given] / self.spread
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


def said(batch: Batch) -> Tensor:
    """(N,) the target of each text, packed or not."""
    if batch.targets.dim() == 1 or batch.doc is None:
        return batch.targets
    row, start, _ = stretches(batch.doc).unbind(1)
    return batch.targets[row, start]


def outputs(model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the model's read-out gives for a batch: (N, K), a row for each text, or (B, T, K)."""
    return model(  # type: ignore[no-any-return]
        batch.inputs, batch.doc, source=batch.source, source_doc=batch.source_doc, types=batch.types, dtype=dtype
    )
