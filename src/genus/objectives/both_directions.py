"""Two language models at once, one from left to right and one from right to left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genus.objectives.batch import Batch, Rows
from genus.objectives.causal import Causal
from genus.ops.cross_entropy import IGNORE


@dataclass(frozen=True)
class BothDirections(Causal):
    """The sum of the log-likelihoods of both directions (Peters et al. 2018, section 3.1).

    What the forward direction reads, the backward one predicts, and the other way round: with a document t1 ... tn, forward it
    is BOS t1 ... tn -> t1 ... tn EOS, and backward EOS tn ... t1 -> tn ... t1 BOS. Each direction gives the whole document a
    probability. Every token is two targets, so the mean loss is the mean of the two directions.
    """

    def batch(self, rows: Rows, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """`targets` (B, T, 2): the next token, and the one before it. A row of a stream that begins afresh in the middle of a
        document has no token before it to find."""
        batch = super().batch(rows, rng, stream)
        before = batch.inputs.masked_fill(batch.targets == IGNORE, IGNORE)
        before[:, 0].masked_fill_(rows.begins & (rows.previous != rows.bos), IGNORE)
        return replace(batch, targets=torch.stack([batch.targets, before], dim=-1))

    def loss(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p in nats over the targets of both directions, and their number. A state serves the forward direction."""
        after, before = batch.targets.unbind(-1)
        ahead = model.hidden(batch.inputs, batch.doc, state=state, dtype=dtype)
        back = model.hidden_reverse(after.masked_fill(after == IGNORE, 0), batch.doc, dtype=dtype)
        forward, backward = model.head.loss(ahead, after), model.head.loss(back, before)
        return forward[0] + backward[0], forward[1] + backward[1]

    def flops(self, model: Any, length: int) -> float:
        """Of both directions."""
        return float(2 * model.flops(0, length) + model.reverse.flops(model.dim, length) - model.stack.flops(model.dim, length))
