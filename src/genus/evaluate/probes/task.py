"""A synthetic task: sequences of symbols of which some must be predicted.

Shapes: B rows, T positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genus.evaluate.probes.reading import read
from genus.ops.cross_entropy import IGNORE
from genus.recipes.recipe import Recipe
from genus.recipes.training import AdamW, Muon, Schedule, WarmupStableDecay

BOS = 0  # begins every row; the symbols of a task begin at 1


@dataclass(frozen=True)
class Sample:
    """Rows (B, T) of symbols, and which of them (B, T) are asked for."""

    tokens: np.ndarray
    asked: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        """What stands before each symbol."""
        return np.concatenate([np.full((len(self.tokens), 1), BOS), self.tokens[:, :-1]], axis=1)

    @property
    def targets(self) -> np.ndarray:
        """The symbols asked for, -100 elsewhere."""
        return np.where(self.asked, self.tokens, IGNORE)


class Task(ABC):
    """What an architecture is trained on.

    Attributes:
        vocab: symbols, BOS included. length: of the longest row. levels: difficulties that are measured, by name.
        whole: whether a row counts only when all that it asks for is right. optimizer, schedule: how it is trained.
    """

    vocab: int
    length: int
    levels: tuple[str, ...]
    whole: bool = False
    optimizer: AdamW | Muon = Muon(lr=1e-2, weight_decay=0.01, beta2=0.98)
    schedule: Schedule = WarmupStableDecay(warmup=0.05)

    @abstractmethod
    def batch(self, rng: np.random.Generator) -> Sample:
        """Rows to train on."""

    @abstractmethod
    def test(self, level: str) -> Sample:
        """Rows of one level that are never trained on, the same each time."""

    def build(self, recipe: Recipe) -> nn.Module:
        """The model that is trained."""
        return recipe.model.build(0)  # type: ignore[no-any-return, attr-defined]

    def loss(self, model: Any, sample: Any) -> Tensor:
        """Mean -log p of what is asked for, in nats."""
        device = next(model.parameters()).device
        hidden = model.hidden(torch.from_numpy(sample.inputs).to(device))
        total, count = model.head.loss(hidden, torch.from_numpy(sample.targets).to(device))
        return total / count  # type: ignore[no-any-return]

    def measure(self, model: Any, sample: Any) -> tuple[float, float]:
        """(score, loss): share that is right, and mean -log p of what is asked for."""
        found = read(model, sample.inputs, sample.targets)
        right = (found.correct | ~sample.asked).all(1) if self.whole else found.correct[sample.asked]
        return float(right.mean()), -float(found.log_probs[sample.asked].mean(dtype=np.float64))
