"""Keep what a classifier finds good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.prepare.batches import TEXT
from genus.prepare.histograms import counts
from genus.prepare.steps.step import Function, Outcome, Step, keep, set_column

if TYPE_CHECKING:
    import pyarrow as pa

Scorer = Callable[[Sequence[str]], np.ndarray]
"""Scores of texts, (n,) float32; NaN for a text that has none."""

LOW, HIGH = "the classifier's score is too low", "the classifier's score is too high"


@dataclass(frozen=True)
class Classifier(Step):
    """Keep documents by the score of a classifier that `genus tune` made, or of a Hugging Face folder: quality, toxicity ...

    The score, the probability of a label or the number that a regression gives, is added as a column, and its distribution is
    kept, also when no limit is set. The beginning of a document is read, as much as the model has positions for.

    Attributes:
        model: a tuned run, or a folder in Hugging Face layout. label: whose probability is the score; of a regression none.
        minimum, maximum: documents below the one or above the other are left out.
        name: of the scores, `classifier.NAME`, where the label's is another step's; else they are called after the label.
    """

    NAME: ClassVar[str] = "classifier"

    model: str = ""
    label: str = ""
    minimum: float | None = None
    maximum: float | None = None
    name: str = ""

    @property
    def column(self) -> str:
        called = self.name or self.label
        return f"{self.NAME}.{called}" if called else self.NAME

    def scorer(self) -> Scorer:
        """Load the model.

        Raises:
            ValueError: here always: reading models belongs to a higher floor, which has a child of this class. The command line
                puts it in the place of this one.
        """
        raise ValueError('classifier: in Python write "genus.tune.judge.Judge:model=RUN,label=good", the step that loads models')

    def reads(self) -> tuple[str, ...]:
        if not self.model:
            raise ValueError("classifier: name the model, such as classifier:model=runs/quality,label=good,minimum=0.5")
        return (self.model,)

    def ready(self) -> Function:
        score = self.scorer()

        def judge(batch: pa.RecordBatch) -> Outcome:
            scores = score(batch.column(TEXT).to_pylist())
            low = scores < (-np.inf if self.minimum is None else self.minimum)
            high = scores > (np.inf if self.maximum is None else self.maximum)
            reasons = [LOW if a else HIGH if b else None for a, b in zip(low.tolist(), high.tolist())]
            noted = set_column(batch, self.column, scores)
            gone = scores[low | high]
            return keep(noted, reasons, counts={**counts(self.column, scores), **counts(f"{self.column} dropped", gone)})

        return judge
