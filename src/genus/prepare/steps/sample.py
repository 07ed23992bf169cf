"""Keep a share of the documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.prepare.batches import held_out
from genus.prepare.dice import scrambled
from genus.prepare.known import digests
from genus.prepare.steps.step import Function, Outcome, Step, keep

if TYPE_CHECKING:
    import pyarrow as pa

REASON = "not in the sample"
SALT = 2
"""So that the dice are others than those of splits, mixtures and the tokenizer's sample, which throw the same hashes."""


@dataclass(frozen=True)
class Sample(Step):
    """Keep a share of the documents, chosen by the hash of their text and a seed.

    Which documents are kept depends on nothing else: more of them are kept of a larger share, and adding files changes nothing.
    Ready-made validation and test sets stay whole.

    Attributes:
        share: of the documents, from 0 to 1. seed: another seed keeps others; that of the run when not given.
    """

    NAME: ClassVar[str] = "sample"
    PAIRS: ClassVar[bool] = True

    share: float = 0.1
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"sample:share={self.share:g}: give a share of the documents, above 0 and at most 1, such as 0.1")

    def ready(self) -> Function:
        # Both numbers are exact: a share has at most 53 bits, and 2**64 is a power of two.
        return below(int(self.share * 2**64), self.seed or 0, REASON)


def below(border: int, seed: int, reason: str) -> Function:
    """Keep documents whose place is below a border, and what is held out. No text is shown of the others: they may be many."""

    def choose(batch: pa.RecordBatch) -> Outcome:
        if border >= 2**64:
            return Outcome(batch, [], [], {})
        wanted = (places(batch, seed) < np.uint64(border)) | held_out(batch)
        return keep(batch, wanted, reason, excerpts=dict.fromkeys(np.flatnonzero(~wanted).tolist(), ""))

    return choose


def places(batch: pa.RecordBatch, seed: int) -> np.ndarray:
    """Where the dice put every document: uniform uint64."""
    both = digests(batch)
    with np.errstate(over="ignore"):
        return scrambled(both[:, 0] + both[:, 1], seed + SALT)
