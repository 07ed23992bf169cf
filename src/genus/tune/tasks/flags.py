"""Labels of which a text may have several, each with its own probability: so answer many toxicity models of Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from genus.objectives.batch import Batch
from genus.objectives.labelled import outputs
from genus.tune.tasks.classification import Classification


@dataclass(frozen=True)
class Flags(Classification):
    """Which labels a text has; for reading only, since rows of labels name one each."""

    def outputs(self, model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Any]:
        """Probabilities in the order of `labels`, which need not sum to one."""
        return outputs(model, batch, dtype).sigmoid().tolist()  # type: ignore[no-any-return]
