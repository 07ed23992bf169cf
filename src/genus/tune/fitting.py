"""Fit: one model trained on some of the rows, judged on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from genus.parts.model import Model
from genus.run import Run
from genus.tune.base import Base
from genus.tune.methods import Method
from genus.tune.options import TuneOptions
from genus.tune.task import Example, Task


@dataclass
class Fitted:
    """What a fit gives.

    Attributes:
        model: with the best weights, the method's additions merged. spec: what it was built from. score: the task's primary
            score on the validation rows (NaN without). scores: all of them. history: one dict per evaluation, `step` and scores.
        best: update after which the weights were the best. updates, epochs: made in all. seconds: of training.
        trainable: parameters that learnt. loss: of training at the end.
    """

    model: nn.Module
    spec: Model
    score: float
    scores: dict[str, float]
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    updates: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    trainable: int = 0
    loss: float = 0.0


def fit(
    base: Base,
    task: Task,
    train: Sequence[Example],
    valid: Sequence[Example],
    method: Method,
    options: TuneOptions,
    seed: int = 0,
    run: Run | None = None,
    rows: Sequence[dict[str, Any]] = (),
) -> Fitted:
    """Train a fresh copy of the base on `train`; keep the weights that are the best on `valid`.

    Args:
        valid: empty = train for the whole budget and keep the last weights. rows: the records that `valid` was made of, for
            scores; without them the loss decides.
        run: where checkpoints and the curve are written, and continued from; None = nowhere that stays.
    """
    raise NotImplementedError
