"""Sequence to sequence: a target from a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from genus.objectives.batch import Batch
from genus.objectives.objective import Objective, Reads
from genus.ops.cross_entropy import IGNORE
from genus.parts.ctx import PADDING


@dataclass(frozen=True)
class PairRows:
    """Pairs of stored documents, row by row, each with its end token.

    Attributes:
        sources, targets: token ids of each row. bos: the id that stands before the first token of a target.
    """

    sources: Sequence[np.ndarray[Any, Any]]
    targets: Sequence[np.ndarray[Any, Any]]
    bos: int


@dataclass(frozen=True)
class Seq2Seq(Objective):
    """Each token of a target from the whole source and the target's tokens before it (Sutskever et al. 2014, eq. 1).

    The first token of a target is predicted from BOS, and its end (EOS) like any token. The encoder reads the source's end too.

    Attributes:
        label_smoothing: share of each target's probability that is spread over the vocabulary while training (Vaswani et al.
            2017, section 5.4). The loss of a model in evaluation mode is the plain one.
    """

    label_smoothing: float = 0.0

    reads: ClassVar[Reads] = "source"
    likelihood: ClassVar[bool] = True
    pairs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing} must be from 0 up to, but not including, 1; 0.1 is usual")

    def batch(self, rows: PairRows, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """Rows filled up on the right. The decoder needs no mask there: no position sees a later one, and padding has no loss."""
        targets = _padded(rows.targets, IGNORE)
        source = _padded(rows.sources, PADDING)
        padding = source == PADDING
        inputs = torch.full_like(targets, rows.bos)
        inputs[:, 1:] = targets[:, :-1].clamp(min=0)
        source_doc = torch.where(padding, PADDING, 0) if bool(padding.any()) else None
        return Batch(inputs, targets, source=source.clamp(min=0), source_doc=source_doc)

    def loss(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p(target | source) in nats over the batch, smoothed while training, and the number of targets."""
        given = {"source": batch.source, "source_doc": batch.source_doc}
        hidden = model.hidden(batch.inputs, batch.doc, state=state, dtype=dtype, **given)
        smoothing = self.label_smoothing if model.training else 0.0
        return model.head.loss(hidden, batch.targets, smoothing)  # type: ignore[no-any-return]

    def flops(self, model: Any, length: int) -> float:
        """Per token that it reads: a model's operations are those of a target position and of a source position with it."""
        return float(model.flops(0, length)) / 2


def _padded(rows: Sequence[np.ndarray[Any, Any]], fill: int) -> Tensor:
    """(B, longest), filled up on the right."""
    return pad_sequence([torch.from_numpy(row.astype(np.int64)) for row in rows], batch_first=True, padding_value=fill)
