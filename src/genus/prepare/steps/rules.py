"""How rules of quality are put together: the first one that a document breaks is the reason why it is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from genus.prepare.steps.step import Outcome, keep

if TYPE_CHECKING:
    import pyarrow as pa


def decide(batch: pa.RecordBatch, rules: Sequence[tuple[str, np.ndarray]]) -> Outcome:
    """Drop the documents that break a rule.

    Args:
        rules: (reason, (documents,) bool: which documents break it), in order.
    """
    reasons = np.full(batch.num_rows, None, dtype=object)
    for reason, broken in reversed(rules):
        reasons[broken] = reason
    return keep(batch, reasons.tolist())


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, float64; 0 where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0))


def holds_words(column: pa.Array, words: Sequence[str], number: int, among: np.ndarray) -> np.ndarray:
    """Which texts hold at least `number` different ones of some words, whatever their case. (texts,) bool, False outside `among`.

    Args:
        among: (texts,) bool, which texts to look at.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = np.zeros(len(column), dtype=np.int64)
    left = np.flatnonzero(among)
    for word in words:
        left = left[found[left] < number]
        if not len(left):
            break
        texts = column.take(pa.array(left))
        found[left] += np.asarray(pc.match_substring_regex(texts, rf"(?i)\b{word}\b")).astype(np.int64)
    return np.asarray(among & (found >= number))
