"""Span corruption: spans of a text are taken out, and given back one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from genus.objectives.denoise import SENTINELS, Denoiser, Generator
from genus.objectives.pieces import Ids


@dataclass(frozen=True)
class Spans(Denoiser):
    """Span corruption (Raffel et al. 2020, section 3.1.4).

    In the source a sentinel stands for each span that was taken out; the target is each sentinel followed by its span. As in
    the code of T5, a text begins with something that is kept, and the spans and what lies between them have random lengths.

    Attributes:
        rate: share of the tokens that is taken out. mean: mean length of a span.
    """

    rate: float = 0.15
    mean: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1 or self.mean < 1:
            raise ValueError(
                f"rate={self.rate} must lie between 0 and 1 and mean={self.mean} must be 1 or more; T5 takes 0.15 and 3"
            )

    def corrupt(self, tokens: Ids, rng: Generator) -> tuple[Ids, Ids]:
        length = len(tokens)
        lost = min(max(1, round(length * self.rate)), max(1, length - 1))
        count = max(1, min(round(lost / self.mean), lost, length - lost, SENTINELS))
        taken, kept = _parts(lost, count, rng), _parts(length - lost, count, rng)
        borders = np.stack([kept, taken], axis=1).reshape(-1).cumsum()[:-1]
        runs = np.split(tokens, borders)  # kept, taken, kept, taken ...
        sentinels = [np.array([self.sentinel + i * self.step]) for i in range(count)]
        source = [part for kept_run, mark in zip(runs[::2], sentinels) for part in (kept_run, mark)]
        target = [part for mark, taken_run in zip(sentinels, runs[1::2]) for part in (mark, taken_run)]
        return np.concatenate(source), np.concatenate(target)

    def lengths(self, length: int) -> tuple[float, float]:
        spans = max(1.0, length * self.rate / self.mean)
        return length * (1 - self.rate) + spans + 1, length * self.rate + spans + 1


def _parts(total: int, count: int, rng: Generator) -> Ids:
    """`total` things in `count` parts, none of them empty where there are enough; all ways are equally likely."""
    if total < count:
        return np.array([0] * (count - total) + [1] * total)
    cuts = torch.randperm(total - 1, generator=rng)[: count - 1].sort().values.numpy() + 1
    return np.diff(cuts, prepend=0, append=total)
