"""Next-token prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from genus.objectives.batch import Batch, Rows
from genus.objectives.objective import Objective
from genus.ops.cross_entropy import IGNORE
from genus.parts.ctx import PADDING


@dataclass(frozen=True)
class Causal(Objective):
    """Each token from those before it in the same document (Bengio et al. 2003, section 1).

    The first token of a document is predicted from BOS, and the end of the document (EOS) is predicted like any token.
    """

    likelihood: ClassVar[bool] = True

    def batch(self, rows: Rows, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """Shift the rows by one. `stream`: the rows continue those of the batch before, so document ids are always kept."""
        shifted = torch.cat([rows.previous[:, None], rows.tokens[:, :-1]], dim=1)
        begins = torch.cat([rows.begins[:, None], rows.doc[:, 1:] != rows.doc[:, :-1]], dim=1)
        inputs = shifted.masked_fill(begins, rows.bos)
        padding = rows.doc == PADDING
        single = not stream and not bool(begins[:, 1:].any()) and not bool(padding.any())
        return Batch(
            inputs,
            rows.tokens.masked_fill(padding, IGNORE),
            None if single else rows.doc,
        )

    def loss(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p(target) in nats over the batch, and the number of targets."""
        hidden = model.hidden(batch.inputs, batch.doc, state=state, dtype=dtype)
        return model.head.loss(hidden, batch.targets)  # type: ignore[no-any-return]
