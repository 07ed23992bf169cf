"""Tasks that say one thing of a text, or of a pair of texts: what its columns are, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genus.modalities.framing import frame_many
from genus.prepare.records import Record, Records
from genus.tune.task import LABEL, PAIR, TEXT, Example, Task, Wishes, column, empty, missing

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer


@dataclass(frozen=True)
class TextTask(Task):
    """One label for a text, or for a pair of texts; use one of its children.

    Attributes:
        text, pair, label: columns.
    """

    text: str = "text"
    pair: str | None = None
    label: str = "label"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(c for c in (self.text, self.pair, self.label) if c)

    @classmethod
    def columns_of(cls, records: Records, wishes: Wishes, what: str) -> tuple[str, str | None, str] | None:
        """The columns `text`, `pair` and `label`, which holds `what`; None where one of them is missing.

        Raises:
            ValueError: one is missing, and this task is asked for.
        """
        text = column(records, wishes.text, TEXT, "the texts", "--text")
        label = column(records, wishes.label, LABEL, f"the {what}", "--label")
        if text is None or label is None:
            if wishes.task == cls.name:
                lacking, flag = ("text", "--text") if text is None else (what, "--label")
                raise missing(records, f"the column that looks like {lacking}", flag)
            return None
        return text, column(records, wishes.pair, PAIR if wishes.text is None else (), "the second texts", "--pair"), label

    def problem(self, row: Record, labelled: bool = True) -> str | None:
        for name in (self.text, self.pair):
            if name and empty(row.get(name)):
                return f"empty {name}" if name in row else f"no {name}"
        return self.unusable(row.get(self.label)) if labelled else None

    def unusable(self, value: Any) -> str | None:
        """Why a value cannot be the label of a row, or None."""
        raise NotImplementedError

    def texts(self, row: Record) -> tuple[str, ...]:
        return tuple(str(row.get(name, "")) for name in (self.text, self.pair) if name)

    def framed(self, rows: Sequence[Record], tokenizer: Tokenizer, limit: int, label: Callable[[Record], Any]) -> list[Example]:
        """One example for each row: its text or its two texts with what the tokenizer puts around them."""
        read = frame_many(tokenizer, [self.texts(row) for row in rows], limit)
        return [
            Example(ids, types if any(types) else [], label(row), row=i, cut=cut)
            for i, (row, (ids, types, cut)) in enumerate(zip(rows, read, strict=True))
        ]
