"""In-context linear regression: does an architecture learn to fit a line to the examples in its context?

Garg et al., "What Can Transformers Learn In-Context? A Case Study of Simple Function Classes" (2022): x1, w x1, x2, w x2 ...
with a new w in each row. The inputs are vectors: the token table of the model is replaced by a linear map, its read-out by
another, as published; between them everything is the recipe's.

Shapes: B rows, N examples, F numbers in a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genus.evaluate.probes.learning import learn
from genus.evaluate.probes.result import Curve, ProbeResult
from genus.evaluate.probes.small import describe, small
from genus.evaluate.probes.task import Task
from genus.parts.ngram import NGram
from genus.recipes.recipe import Recipe

DIMENSION = 3
EXAMPLES = 16
ROWS = 64  # of a batch
TESTED = 512  # rows that are measured
CLOSE = 0.1  # of the spread of y: an answer counts as right within it


@dataclass(frozen=True)
class Lines:
    """x (B, N, F) and y (B, N), both with unit variance."""

    x: Tensor
    y: Tensor


class Regression(Task):
    """Predict each y from its x and the examples before it; the error is squared."""

    vocab = 2  # symbols are not used
    levels = ("all",)

    def __init__(self, dimension: int = DIMENSION, examples: int = EXAMPLES, rows: int = ROWS) -> None:
        self.dimension, self.examples, self.rows = dimension, examples, rows
        self.length = 2 * examples

    def batch(self, rng: np.random.Generator) -> Any:
        return self._rows(rng, self.rows)

    def test(self, level: str) -> Any:
        return self._rows(np.random.default_rng(13), TESTED)

    def _rows(self, rng: np.random.Generator, count: int) -> Lines:
        x = rng.standard_normal((count, self.examples, self.dimension))
        w = rng.standard_normal((count, self.dimension))
        y = np.einsum("bnf,bf->bn", x, w) / self.dimension**0.5
        return Lines(torch.from_numpy(x).float(), torch.from_numpy(y).float())

    def build(self, recipe: Recipe) -> nn.Module:
        """The recipe's model with linear maps for its token table and its read-out."""
        model: Any = recipe.model.build(0)  # type: ignore[attr-defined]
        width = recipe.model.stack.width(recipe.model.dim)  # type: ignore[attr-defined]
        model.embed.tokens = nn.Linear(self.dimension + 1, model.embed.tokens.embedding_dim)
        model.head = nn.Linear(width, 1)
        return model  # type: ignore[no-any-return]

    def predict(self, model: Any, lines: Lines) -> Tensor:
        """(B, N) what the model says for each y."""
        device = next(model.parameters()).device
        return model.head(model.hidden(interleaved(lines).to(device)))[:, ::2, 0].cpu()  # type: ignore[no-any-return]

    def loss(self, model: Any, sample: Any) -> Tensor:
        return (self.predict(model, sample) - sample.y).square().mean()

    def measure(self, model: Any, sample: Any) -> tuple[float, float]:
        """Over the last quarter of the examples."""
        error = (self.predict(model, sample) - sample.y)[:, -self.examples // 4 :]
        return float((error.abs() < CLOSE).float().mean()), float(error.square().mean())


def interleaved(lines: Lines) -> Tensor:
    """(B, 2 N, F + 1): x and a zero, then zeros and y."""
    questions = torch.cat([lines.x, torch.zeros_like(lines.y)[..., None]], dim=-1)
    answers = torch.cat([torch.zeros_like(lines.x), lines.y[..., None]], dim=-1)
    return torch.stack([questions, answers], dim=2).flatten(1, 2)


def least_squares(lines: Lines) -> Tensor:
    """(B, N) the answer of least squares (of the smallest norm) on the examples before each."""
    x, y = lines.x.double(), lines.y.double()
    found = torch.zeros_like(y)
    for n in range(1, y.shape[1]):
        w = torch.linalg.pinv(x[:, :n]) @ y[:, :n, None]
        found[:, n] = (x[:, n] * w[..., 0]).sum(-1)
    return found.float()


def regression(recipe: str | Recipe, seconds: float, seed: int = 0, updates: int | None = None) -> ProbeResult:
    """Squared error by the number of examples in the context, beside least squares and beside saying nothing (1)."""
    task = Regression()
    chosen = small(recipe, task.vocab, task.length)
    if isinstance(chosen.model, NGram):
        raise ValueError("the probe 'regression' feeds vectors to the model, and an n-gram counts symbols; leave it out")
    learned = learn(chosen, task, seconds, seed, updates)
    score, loss = learned.last("all")
    lines = task.test("all")
    with torch.no_grad():
        error = task.predict(learned.model, lines) - lines.y
    best = (least_squares(lines) - lines.y).square().mean(0)
    close, squared = (error.abs() < CLOSE).float().mean(0), error.square().mean(0)
    along = learned.curve("close", "squared error")
    shots = Curve.judge(
        "examples before", range(task.examples), "close", close.tolist(), "squared error", squared.tolist(), shift=1.0
    )
    return ProbeResult(
        "regression",
        "train",
        describe(chosen),
        score,
        f"within {CLOSE:g} of y, last quarter",
        loss,
        "squared error, last quarter (1 = none)",
        {
            f"squared error, {DIMENSION} examples": float(squared[DIMENSION]),
            f"least squares, {DIMENSION} examples": float(best[DIMENSION]),
            f"least squares, {DIMENSION - 1} examples": float(best[DIMENSION - 1]),
            f"squared error, {DIMENSION - 1} examples": float(squared[DIMENSION - 1]),
            "updates": learned.updates[-1],
        },
        tuple(c for c in (along, shots) if c),
        f"y = w x with x and w in {DIMENSION} dimensions, a new w in each row of {EXAMPLES} examples, {ROWS} rows an update; "
        "vectors are read in and out by linear maps",
        notes=tuple(learned.notes),
        seconds=learned.seconds,
    )
