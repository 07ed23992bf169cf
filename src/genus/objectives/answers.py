"""Answers: what one side says in a conversation, or a text that follows a question.

Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genus.objectives.batch import Batch
from genus.objectives.objective import Objective
from genus.ops.cross_entropy import IGNORE
from genus.parts.ctx import PADDING


@dataclass(frozen=True)
class Answers(Objective):
    """The marked tokens of a text, each from all that stands before it (Ouyang et al. 2022; Sanh et al. 2022).

    An example has `ids` (tokens) and `label` (for each of them itself, or -100 where nothing is learnt from it). The first
    token of a text is never a target: what a model begins with is part of the ids.
    """

    def batch(self, rows: Any, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """Rows of one example each, or of several that do not see each other, filled up on the right."""
        packed = [[row] if hasattr(row, "ids") else list(row) for row in rows]
        lengths = [[len(example.ids) - 1 for example in row] for row in packed]
        width = max(1, *(sum(each) for each in lengths))
        inputs = torch.zeros(len(packed), width, dtype=torch.int64)
        targets = torch.full((len(packed), width), IGNORE, dtype=torch.int64)
        doc = torch.full((len(packed), width), PADDING, dtype=torch.int64)
        for r, (row, sizes) in enumerate(zip(packed, lengths, strict=True)):
            _fill(row, sizes, inputs[r], targets[r], doc[r])
        return Batch(inputs, targets, doc if bool((doc != 0).any()) else None)

    def loss(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p(target) in nats over the batch, and the number of targets."""
        hidden = model.hidden(batch.inputs, batch.doc, state=state, dtype=dtype)
        given = batch.targets != IGNORE  # the read-out costs as much as several layers: only where it is asked
        return model.head.loss(hidden[given], batch.targets[given])  # type: ignore[no-any-return]


def _fill(row: Sequence[Any], sizes: Sequence[int], inputs: Tensor, targets: Tensor, doc: Tensor) -> None:
    at = 0
    for number, (example, size) in enumerate(zip(row, sizes, strict=True)):
        place = slice(at, at + size)
        inputs[place] = torch.as_tensor(example.ids[:-1])
        targets[place] = torch.as_tensor(example.label[1:])
        doc[place] = number
        at += size
