"""Prefix language modelling: the rest of a text from its beginning."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from genus.objectives.denoise import Denoiser, Generator
from genus.objectives.pieces import Ids


@dataclass(frozen=True)
class PrefixLM(Denoiser):
    """The end of a text from its beginning, which the encoder reads whole (Raffel et al. 2020, section 3.2.1).

    Attributes:
        rate: mean share of the text that is to be given; the border lies anywhere from the text's end to twice as far back,
            so that 0.5 is a border anywhere.
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 0.5:
            raise ValueError(f"rate={self.rate} must be more than 0 and at most 0.5, the mean of a border anywhere in the text")

    def corrupt(self, tokens: Ids, rng: Generator) -> tuple[Ids, Ids]:
        length = len(tokens)
        most = min(max(1, round(2 * self.rate * length)), max(1, length - 1))
        border = length - int(torch.randint(1, most + 1, (), generator=rng))
        return tokens[:border], tokens[border:]

    def lengths(self, length: int) -> tuple[float, float]:
        return length * (1 - self.rate) + 1, length * self.rate + 1
