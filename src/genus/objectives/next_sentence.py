"""Does the second half follow the first? Pairs of texts, and whether they stand as they were written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from genus.objectives.pieces import Piece
from genus.ops.cross_entropy import IGNORE
from genus.spec import Spec

Halves = tuple[Piece, ...]  # two, or one where there was nothing to cut


@dataclass(frozen=True)
class Text:
    """What is framed as `[CLS] first [SEP]` or `[CLS] first [SEP] second [SEP]`.

    Attributes:
        row: of the batch. parts: one piece or two. label: of the pair, -100 = none.
    """

    row: int
    parts: Halves
    label: int = IGNORE


@dataclass(frozen=True)
class Pairs(Spec):
    """A second thing to learn beside masked tokens, from pairs; use one of its children.

    A piece of a document is cut in two somewhere in its middle half; one of a single token stays whole and has no label.

    Attributes:
        changed: share of the pairs that are not as they were written (label 1). weight: of this loss, see `Masked`.
    """

    changed: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.changed <= 1:
            raise ValueError(f"changed={self.changed} must be a share of the pairs, from 0 to 1; 0.5 is usual")

    def texts(self, pieces: Sequence[Piece], rng: torch.Generator | None = None) -> list[Text]:
        """A text of every piece, in the same order."""
        draws = torch.rand(len(pieces), 3, generator=rng).numpy()
        halves = [_halves(piece, float(draw)) for piece, draw in zip(pieces, draws[:, 0])]
        found = []
        for i, (piece, half) in enumerate(zip(pieces, halves)):
            changed = self._changed(i, halves, float(draws[i, 2])) if draws[i, 1] < self.changed else None
            label = IGNORE if len(half) < 2 else 0 if changed is None else 1
            found.append(Text(piece.row, half if label != 1 or changed is None else changed, label))
        return found

    def _changed(self, i: int, halves: Sequence[Halves], draw: float) -> Halves | None:
        """The halves number i made into a pair of label 1; None when that cannot be."""
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        """Sum of -log p(label) in nats over logits (P, 2), each pair `weight` x `counts` (P,) times."""
        nats = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return self.weight * (nats * counts).sum()


@dataclass(frozen=True)
class NextSentence(Pairs):
    """Next-sentence prediction (Devlin et al. 2019, section 3.1): the second half of the piece, or of another document's.

    Where a batch has but one document the other half comes from another place of it; where it has but one piece, no pair is
    changed.
    """

    def _changed(self, i: int, halves: Sequence[Halves], draw: float) -> Halves | None:
        others = [j for j, half in enumerate(halves) if len(half) > 1 and j != i]
        foreign = [j for j in others if halves[j][0].doc != halves[i][0].doc] or others
        return (halves[i][0], halves[foreign[int(draw * len(foreign))]][1]) if foreign else None


@dataclass(frozen=True)
class SentenceOrder(Pairs):
    """Sentence-order prediction (Lan et al. 2020, section 3.1): the two halves as they were written, or the other way round."""

    def _changed(self, i: int, halves: Sequence[Halves], draw: float) -> Halves | None:
        return halves[i][::-1]


def _halves(piece: Piece, draw: float) -> Halves:
    length = len(piece.tokens)
    if length < 2:
        return (piece,)
    at = min(max(1, round(length * (0.25 + 0.5 * draw))), length - 1)
    first, second = (None, None) if piece.words is None else np.split(piece.words, [at])
    return replace(piece, tokens=piece.tokens[:at], words=first), replace(piece, tokens=piece.tokens[at:], words=second)
