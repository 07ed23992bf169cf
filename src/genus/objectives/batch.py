"""What a loader hands to an objective, and what an objective hands to a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Consecutive tokens of the prepared stream, row by row.

    Attributes:
        tokens: (B, T) stored tokens. doc: (B, T) number of the document each belongs to, -1 where a row has run out.
        previous: (B,) the stored token before each row. begins: (B,) whether a row's first token begins its document.
        bos: the id that stands before the first token of a document.
    """

    tokens: Tensor
    doc: Tensor
    previous: Tensor
    begins: Tensor
    bos: int


@dataclass(frozen=True)
class Batch:
    """Inputs and targets (B, T), -100 = no target, and document ids (B, T) or None where every row is one document."""

    inputs: Tensor
    targets: Tensor
    doc: Tensor | None
