"""A number for a text, or for a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from genus.objectives.batch import Batch
from genus.objectives.labelled import Regress, outputs
from genus.parts.model import Model
from genus.parts.task_head import TaskHead
from genus.prepare.records import Record, Records
from genus.tune.metrics import NumberCounts
from genus.tune.reading import text_head
from genus.tune.task import Example, Wishes, empty
from genus.tune.tasks.text import TextTask

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

CLASSES = 20  # whole numbers of at most so many values are taken for classes


@dataclass(frozen=True)
class Regression(TextTask):
    """Which number a text, or a pair of texts, has.

    Attributes:
        mean, spread: of the numbers that were learnt from; an error is in units of the spread.
    """

    name: ClassVar[str] = "regression"
    primary: ClassVar[str] = "pearson"
    added: ClassVar[tuple[str, ...]] = ("prediction",)

    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def infer(cls, records: Records, wishes: Wishes) -> Self | None:
        found, asked = cls.columns_of(records, wishes, "numbers"), wishes.task == cls.name
        if found is None:
            return None
        text, pair, label = found
        given = [row.get(label) for row in records.rows if not empty(row.get(label))]
        numbers = [n for value in given if (n := as_number(value)) is not None]
        if len(numbers) < len(given) and not asked:
            return None
        different = set(numbers)
        if not asked and len(different) <= CLASSES and all(n.is_integer() for n in different):
            return None
        if len(different) < 2:
            raise ValueError(f"the column {label!r} of {records.name} holds {len(different)} different numbers; two are needed")
        mean = math.fsum(numbers) / len(numbers)
        spread = math.sqrt(math.fsum((n - mean) ** 2 for n in numbers) / len(numbers))
        return cls(text, pair, label, mean, spread)

    def because(self, records: Records) -> str:
        different = len({as_number(row.get(self.label)) for row in records.rows})
        return (
            f"{self.label!r} holds numbers, {different:,} different ones in {len(records):,} rows "
            f"({self.mean:.4g} ± {self.spread:.4g}): {self.name} (--task classification reads them as classes)"
        )

    def unusable(self, value: Any) -> str | None:
        if empty(value):
            return f"empty {self.label}"
        return None if as_number(value) is not None else f"{self.label} {value!r} is not a number"

    def target(self, row: Record) -> float | None:
        return as_number(row.get(self.label))

    def examples(self, rows: Sequence[Record], tokenizer: Tokenizer, limit: int) -> list[Example]:
        def number(row: Record) -> float:
            value = self.target(row)
            return math.nan if value is None else value

        return self.framed(rows, tokenizer, limit, number)

    def head(self, model: Model) -> TaskHead | None:
        return text_head(model, 1).replace(bias=True)

    def begin(self, model: Any) -> None:
        """The read-out begins at the mean, in units of the spread."""
        with torch.no_grad():
            model.head.proj.weight.mul_(self.spread)
            model.head.proj.bias.fill_(self.mean)

    def rates(self, model: Any) -> dict[str, float]:
        """Adam moves a weight by about the rate, whatever the units: the read-out's are the spread's."""
        return {"head.proj.weight": self.spread, "head.proj.bias": self.spread}

    @property
    def objective(self) -> Regress:
        return Regress(spread=self.spread)

    def outputs(self, model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Any]:
        """Numbers."""
        return outputs(model, batch, dtype)[:, 0].tolist()  # type: ignore[no-any-return]

    def counts(self, predictions: Sequence[Any], rows: Sequence[Record]) -> NumberCounts:
        """For pearson, spearman, r2 and rmse, of the rows that have a number."""
        pairs = [
            (p, t) for p, row in zip(predictions, rows, strict=True) if (t := self.target(row)) is not None and p is not None
        ]
        return NumberCounts.of([p for p, _ in pairs], [t for _, t in pairs], self.spread)

    def render(self, prediction: Any) -> dict[str, Any]:
        return {"prediction": round(prediction, 6)}


def as_number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
