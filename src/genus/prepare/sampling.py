"""The texts a tokenizer learns from: pieces of the training split, chosen by the hashes of their documents, bounded in all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from genus.prepare.batches import columns, read_store
from genus.prepare.dice import scrambled
from genus.prepare.known import Known
from genus.prepare.plan import Plan
from genus.prepare.rounds import last_stage
from genus.prepare.splits import CUT, TRAIN, Assignment
from genus.prepare.workspace import Workspace

SEGMENT = 2**16
"""Characters of a piece."""


def training_sample(
    space: Workspace, plan: Plan, known: Known, assignment: Assignment, copies: np.ndarray, share: float
) -> Iterator[str]:
    """Every piece with probability `share`, as many times as its document is stored.

    Batches without a chosen piece are read but not decoded.
    """
    for unit in range(len(plan.units)):
        here = known.of(unit)
        verdicts, times = assignment.verdicts[here], copies[here]
        lengths = known.documents.characters[here].copy()
        for i in np.flatnonzero(verdicts == CUT).tolist():
            lengths[i] = assignment.cuts[here.start + i][0]
        dice = known.documents.digests[here, 1]
        pieces = np.maximum(1, -(-lengths // SEGMENT))  # of the text; the other side of a pair is thrown for with it
        wanted = ((verdicts == TRAIN) | (verdicts == CUT)) & (times > 0)
        candidates = wanted & (_any_chosen(dice, pieces, share, plan.seed))
        first = 0
        for batch in read_store(space.file(last_stage(plan.steps), unit, "arrow")):
            for at in np.flatnonzero(candidates[first : first + batch.num_rows]).tolist():
                i = first + at
                for column in columns(batch):
                    text = batch.column(column)[at].as_py()
                    text = text[: lengths[i]] if verdicts[i] == CUT else text
                    for piece in range(-(-len(text) // SEGMENT)):
                        if _chosen(dice[i : i + 1], piece, share, plan.seed)[0]:
                            yield from [text[piece * SEGMENT : (piece + 1) * SEGMENT]] * int(times[i])
            first += batch.num_rows


def _any_chosen(dice: np.ndarray, pieces: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Whether a document may have a chosen piece. True for all long ones, whose pieces are looked at one by one."""
    return (pieces > 1) | _chosen(dice, 0, share, seed)


def _chosen(dice: np.ndarray, piece: int, share: float, seed: int) -> np.ndarray:
    if share >= 1:
        return np.ones(len(dice), dtype=bool)
    with np.errstate(over="ignore"):
        thrown = scrambled(dice + np.uint64(piece) * np.uint64(0xD1342543DE82EF95), seed + 1)
    return thrown.astype(np.float64) / 2.0**64 < share
