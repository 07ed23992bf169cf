"""Replay: rows of earlier data among the new, so that a model that goes on learning does not forget."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genus.objectives.batch import Rows
from genus.parts.ctx import PADDING
from genus.prepare.dataset import Dataset
from genus.train.loader import Windows

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer


@dataclass(frozen=True)
class Replay:
    """Earlier data, and the share of the rows that come from it."""

    path: str
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"the share of replayed rows must be 0 or more and less than 1, not {self.share}; 0.1 is usual")

    def open(self, tokenizer: Tokenizer) -> Dataset:
        """The earlier data, of which the model's tokenizer must know the tokens.

        Raises:
            ValueError: it was prepared with another tokenizer.
        """
        old = Dataset.open(self.path)
        if not tokenizer.extends(old.tokenizer):
            raise ValueError(f"{self.path} was prepared with another tokenizer than the model's, so its rows cannot be replayed")
        return old

    def to_json(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """What run.json keeps of it."""
        old = self.open(tokenizer)
        return {"path": str(Path(old.root).resolve()), "fingerprint": old.fingerprint, "share": self.share}


@dataclass(frozen=True)
class Mixed:
    """A loader of rows of two, `share` of them from `old`; batch number i is a pure function of both and i.

    Of the first n rows exactly floor(n * share) are old, whatever the batch. Each part keeps its own order, so the new rows
    are those that a run without replay would see.
    """

    new: Windows
    old: Windows
    share: float

    @property
    def batch(self) -> int:
        return self.new.batch

    @property
    def steps_per_epoch(self) -> float:
        """Updates of one pass over the new rows."""
        return self.new.steps_per_epoch / (1 - self.share)

    def __call__(self, step: int) -> Rows:
        first, last = (int(rows * self.share + 1e-9) for rows in (step * self.batch, (step + 1) * self.batch))
        count = self.batch - (last - first)
        parts = [self.new.take(step * self.batch - first, count)] if count else []
        if first < last:
            old = self.old.take(first, last - first)
            shift = len(self.new.split.ends)  # to numbers that no new document has
            parts.append(replace(old, doc=torch.where(old.doc == PADDING, PADDING, old.doc + shift)))
        return parts[0] if len(parts) == 1 else _joined(*parts)


def mixed(new: Any, old: Any, share: float) -> Mixed:
    """A loader of rows of both.

    Raises:
        ValueError: the rows are not independent windows of text.
    """
    if not isinstance(new, Windows) or not isinstance(old, Windows):
        raise ValueError(
            "rows can only be replayed among windows of text: set training.stream=false for a model that carries its state on; "
            "pairs cannot be replayed"
        )
    return Mixed(new, old, share)


def _joined(a: Rows, b: Rows) -> Rows:
    pairs = {f.name: (getattr(a, f.name), getattr(b, f.name)) for f in fields(Rows)}
    joined: dict[str, Any] = {name: torch.cat(pair) for name, pair in pairs.items() if isinstance(pair[0], Tensor)}
    return replace(a, **joined)
