"""Labels of which a text may have several, each with its own probability: so answer many toxicity models of Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from genus.objectives.batch import Batch
from genus.objectives.labelled import outputs
from genus.prepare.records import Record
from genus.tune.tasks.classification import Classification


@dataclass(frozen=True)
class Flags(Classification):
    """Which labels a text has; for reading only, since rows of labels name one each."""

    def problem(self, row: Record, labelled: bool = True) -> str | None:
        return super().problem(row, labelled=False) or (f"one {self.label} says nothing of the others" if labelled else None)

    def outputs(self, model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Any]:
        """Probabilities in the order of `labels`, which need not sum to one."""
        return outputs(model, batch, dtype).sigmoid().tolist()  # type: ignore[no-any-return]

    def render(self, prediction: Any) -> dict[str, Any]:
        """The labels that are likelier than not."""
        there = [i for i, p in enumerate(prediction) if p > 0.5]
        return {"prediction": [self.labels[i] for i in there], "probability": [round(prediction[i], 6) for i in there]}
