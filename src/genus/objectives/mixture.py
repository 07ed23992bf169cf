"""A mixture of denoisers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from genus.objectives.denoise import Denoiser, Generator
from genus.objectives.pieces import Ids
from genus.objectives.prefix import PrefixLM
from genus.objectives.spans import Spans

REGULAR, EXTREME, SEQUENTIAL = "[NLU]", "[NLG]", "[S2S]"  # as the tokens of UL2's checkpoints are called

UL2 = (
    *(Spans(REGULAR, rate=0.15, mean=mean) for mean in (3.0, 8.0)),
    *(Spans(EXTREME, rate=rate, mean=mean) for rate, mean in ((0.5, 3.0), (0.5, 8.0), (0.15, 64.0), (0.5, 64.0))),
    PrefixLM(SEQUENTIAL, rate=0.25),
)


@dataclass(frozen=True)
class Mixture(Denoiser):
    """Each text by one of several denoisers, drawn with equal chances (Tay et al. 2023, table 1).

    A special token at the head of the source says which sort it is: regular spans, extreme ones (long, or half of the text), or
    the sequential order of a prefix language model.

    Attributes:
        denoisers: what is mixed; the default is UL2's.
    """

    denoisers: tuple[Denoiser, ...] = UL2

    symbols: ClassVar[tuple[str, ...]] = (*Denoiser.symbols, REGULAR, EXTREME, SEQUENTIAL)

    def __post_init__(self) -> None:
        if not self.denoisers:
            raise ValueError("a mixture needs at least one denoiser")

    def settle(self, ids: Mapping[str, int]) -> Self:
        return super().settle(ids).replace(denoisers=tuple(each.settle(ids) for each in self.denoisers))

    def example(self, tokens: Ids, rng: Generator) -> tuple[Ids, Ids]:
        return self.denoisers[int(torch.randint(len(self.denoisers), (), generator=rng))].example(tokens, rng)

    def lengths(self, length: int) -> tuple[float, float]:
        each = [denoiser.lengths(length) for denoiser in self.denoisers]
        return sum(s for s, _ in each) / len(each), sum(t for _, t in each) / len(each)
