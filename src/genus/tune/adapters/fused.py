"""Low-rank changes of several matrices of ours as one change of the matrix of theirs that holds them, and back; exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.export.rules import LAYOUTS, Bound
from genus.tune.adapters.low_rank import LowRank
from genus.tune.unsuitable import Unsuitable

ROWS = {"same": "same", "transposed": "same", "stacked": "stacked", "stacked_transposed": "stacked", "by_head": "by_head"}
"""Layout of a weight -> that of its rows; peft undoes the transposition of Conv1D itself."""


@dataclass
class Factors:
    """One change: s B A, and lengths of rows. A (rank, inputs), B (outputs, rank), magnitude (outputs)."""

    A: Tensor
    B: Tensor
    scale: float
    magnitude: Tensor | None = None

    @classmethod
    def of(cls, change: LowRank) -> Factors:
        return cls(change.lora_A.detach(), change.lora_B.detach(), change.scale, _detached(change.lora_magnitude))


def join(rule: Bound, weights: Sequence[Tensor], changes: Sequence[LowRank | None], heads: int) -> Factors:
    """The change of their matrix: A is stacked and B block-diagonal, so that the rank is the sum of the ranks.

    Args:
        weights: our matrices, in the order of the rule. changes: theirs; None = not adapted.

    Raises:
        ValueError: their tensor is not one matrix.
    """
    present = [Factors.of(change) for change in changes if change is not None]
    if len(changes) == 1:
        return present[0]
    layout = _rows(rule)
    scale = present[0].scale
    rank, start, blocks, lengths = sum(len(f.A) for f in present), 0, [], []
    for weight, change in zip(weights, changes, strict=True):
        block = weight.new_zeros(len(weight), rank)
        if change is not None:
            block[:, start : start + change.rank] = change.lora_B.detach() * (change.scale / scale)
            start += change.rank
        blocks.append(block)
        own = None if change is None else change.lora_magnitude
        lengths.append(weight.detach().square().sum(1).sqrt() if own is None else own.detach())
    magnitude = LAYOUTS[layout].join(lengths, heads) if any(f.magnitude is not None for f in present) else None
    return Factors(torch.cat([f.A for f in present]), LAYOUTS[layout].join(blocks, heads), scale, magnitude)


def split(rule: Bound, weights: Sequence[Tensor], factors: Factors, heads: int) -> list[Factors | None]:
    """The changes of our matrices, each without the part of the rank that does not reach it; None = it does not change.

    Raises:
        ValueError: the shapes do not fit.
    """
    layout = LAYOUTS[_rows(rule)]
    rows = [b.contiguous() for b in layout.split(factors.B, heads)]
    lengths = [None] * len(rows) if factors.magnitude is None else layout.split(factors.magnitude, heads)
    fresh = not bool(factors.B.any())
    result: list[Factors | None] = []
    for weight, B, m in zip(weights, rows, lengths, strict=True):
        if weight.shape != (len(B), factors.A.shape[1]):
            raise ValueError(
                f"{rule.theirs}: a change of {len(B)} x {factors.A.shape[1]} for {' x '.join(map(str, weight.shape))}"
            )
        keep = torch.ones(B.shape[1], dtype=torch.bool) if fresh or len(rows) == 1 else B.any(0)
        if not bool(keep.any()):
            if m is None or torch.allclose(m, weight.detach().square().sum(1).sqrt().to(m.dtype), rtol=1e-5):
                result.append(None)
                continue
            keep[0] = True  # nothing but the lengths changes
        result.append(Factors(factors.A[keep].contiguous(), B[:, keep].contiguous(), factors.scale, m))
    return result


def _rows(rule: Bound) -> str:
    if rule.layout not in ROWS:
        raise Unsuitable(f"peft cannot adapt {rule.theirs}, which is more than one matrix; choose other targets")
    return ROWS[rule.layout]


def _detached(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.detach()
