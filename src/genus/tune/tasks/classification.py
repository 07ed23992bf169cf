"""A class for a text, or for a pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from genus.objectives.batch import Batch
from genus.objectives.labelled import Classify, outputs
from genus.ops.cross_entropy import IGNORE
from genus.parts.model import Model
from genus.parts.task_head import TaskHead
from genus.prepare.records import Record, Records
from genus.tune.metrics import ClassCounts
from genus.tune.reading import text_head
from genus.tune.task import Example, Wishes
from genus.tune.tasks.text import TextTask

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

MOST = 1000  # different labels


@dataclass(frozen=True)
class Classification(TextTask):
    """Which of a few labels a text, or a pair of texts, has.

    Attributes:
        labels: every label, sorted; a model's outputs are in this order.
    """

    name: ClassVar[str] = "classification"
    primary: ClassVar[str] = "accuracy"

    labels: tuple[str, ...] = ()

    @classmethod
    def infer(cls, records: Records, wishes: Wishes) -> Self | None:
        found = cls.columns_of(records, wishes, "labels")
        if found is None:
            return None
        text, pair, label = found
        seen = Counter(as_label(row.get(label)) for row in records.rows)
        seen.pop("", None)
        if len(seen) < 2:
            only = f"only {next(iter(seen))!r}" if seen else "nothing"
            raise ValueError(f"the column {label!r} of {records.name} holds {only}; at least two different labels are needed")
        if len(seen) > MOST:
            raise ValueError(
                f"the column {label!r} of {records.name} holds {len(seen):,} different values in {len(records):,} rows, and one "
                f"task has at most {MOST:,} labels; name the column of the labels with --label, or another task with --task"
            )
        return cls(text, pair, label, tuple(sorted(seen, key=_order)))

    def because(self, records: Records) -> str:
        read = f"{self.text!r}" + (f" and {self.pair!r}" if self.pair else "")
        return (
            f"{self.label!r} has {len(self.labels):,} different values in {len(records):,} rows: {self.name} of {read} "
            f"(--task, --text, --pair and --label choose otherwise)"
        )

    def unusable(self, value: Any) -> str | None:
        label = as_label(value)
        if not label:
            return f"empty {self.label}"
        return None if label in self.number else f"{self.label} {label!r} is not among those that were learnt from"

    def target(self, row: Record) -> str:
        return as_label(row.get(self.label))

    def stratum(self, row: Record) -> str | None:
        return self.target(row)

    @property
    def number(self) -> dict[str, int]:
        """The label's place among the outputs."""
        return {label: i for i, label in enumerate(self.labels)}

    def examples(self, rows: Sequence[Record], tokenizer: Tokenizer, limit: int) -> list[Example]:
        numbers = self.number
        return self.framed(rows, tokenizer, limit, lambda row: numbers.get(self.target(row), IGNORE))

    def head(self, model: Model) -> TaskHead | None:
        return text_head(model, len(self.labels))

    @property
    def objective(self) -> Classify:
        return Classify()

    def outputs(self, model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Any]:
        """Probabilities in the order of `labels`."""
        return outputs(model, batch, dtype).softmax(-1).tolist()  # type: ignore[no-any-return]

    def counts(self, predictions: Sequence[Any], rows: Sequence[Record]) -> ClassCounts:
        """For accuracy, macro-averaged F1, and expected calibration error (lower is better), of the rows that have a label."""
        numbers = self.number
        pairs = [(p, numbers[t]) for p, row in zip(predictions, rows, strict=True) if (t := self.target(row)) in numbers and p]
        return ClassCounts.of([p for p, _ in pairs], [t for _, t in pairs], len(self.labels))

    def render(self, prediction: Any) -> dict[str, Any]:
        best = max(range(len(prediction)), key=prediction.__getitem__)
        return {"prediction": self.labels[best], "probability": round(prediction[best], 6)}

    def labels_of(self) -> tuple[str, ...]:
        return self.labels


def as_label(value: Any) -> str:
    """A label as text; an empty one for what is no label."""
    if value is None or isinstance(value, list | dict):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _order(label: str) -> tuple[int, float, str]:
    """Numbers by their value, before words by their spelling."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
