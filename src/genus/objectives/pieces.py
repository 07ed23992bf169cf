"""Rows of the stored stream, cut where a document ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from genus.objectives.batch import Rows
from genus.parts.ctx import PADDING

Ids = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Piece:
    """What a row holds of one document.

    Attributes:
        row: its row. doc: number of the document. tokens: (n,) at least one, without the end token.
        words: (n,) whether a word begins with the token; None where the row does not say.
    """

    row: int
    doc: int
    tokens: Ids
    words: Ids | None = None


def pieces(rows: Rows, eos: int) -> list[Piece]:
    """The pieces of all rows, row by row, from left to right. One that is nothing but an end token is left out."""
    tokens, docs = rows.tokens.numpy(), rows.doc.numpy()
    words = None if rows.words is None else rows.words.numpy()
    found = []
    for row, (line, doc) in enumerate(zip(tokens, docs)):
        borders = np.flatnonzero(doc[1:] != doc[:-1]) + 1
        for start, stop in zip((0, *borders), (*borders, len(doc))):
            end = stop - 1 if line[stop - 1] == eos else stop
            if doc[start] != PADDING and end > start:
                found.append(Piece(row, int(doc[start]), line[start:end], None if words is None else words[row, start:end]))
    return found
