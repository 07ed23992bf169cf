"""In-context linear regression: what is best possible, a model that fits and one that does not, vectors through every recipe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genus import recipes
from genus.evaluate.probes import probe_score
from genus.evaluate.probes.learning import learn
from genus.evaluate.probes.regression import Lines, Regression, interleaved, least_squares
from genus.evaluate.probes.small import small


class Fitter(nn.Module):
    """Least squares on what stands in the context; `blind` says nothing."""

    def __init__(self, blind: bool = False) -> None:
        super().__init__()
        self.head, self.blind, self.place = nn.Identity(), blind, nn.Parameter(torch.zeros(1))

    def hidden(self, vectors: torch.Tensor) -> torch.Tensor:
        found = least_squares(Lines(vectors[:, ::2, :-1], vectors[:, 1::2, -1]))
        out = torch.zeros(*vectors.shape[:2], 1)
        out[:, ::2, 0] = 0.0 if self.blind else found
        return out


def test_least_squares_is_exact_from_as_many_examples_as_dimensions() -> None:
    task = Regression(3, 8)
    lines = task.test("all")
    error = (least_squares(lines) - lines.y).square().mean(0)
    assert (error[3:] < 1e-6).all() and error[0] == pytest.approx(1.0, abs=0.2)
    assert error[0] > error[1] > error[2] > 0.1


def test_a_model_that_fits_and_one_that_does_not() -> None:
    task = Regression()
    score, loss = task.measure(Fitter(), task.test("all"))
    assert score == 1.0 and loss < 1e-6
    score, loss = task.measure(Fitter(blind=True), task.test("all"))
    assert score < 0.15 and loss == pytest.approx(1.0, abs=0.1)


def test_rows() -> None:
    task = Regression(2, 4)
    lines = task.test("all")
    rows = interleaved(lines)
    assert rows.shape == (len(lines.y), 8, 3)
    assert torch.equal(rows[:, ::2, :2], lines.x) and torch.equal(rows[:, 1::2, 2], lines.y)
    assert not rows[:, ::2, 2].any() and not rows[:, 1::2, :2].any()


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "gemma2", "lstm", "linear-transformer", "deltanet", "nnlm"])
def test_vectors_go_through(name: str) -> None:
    """Causally: y cannot be seen before it is asked for."""
    task = Regression(2, 6)
    recipe = small(name, task.vocab, task.length)
    model = task.build(recipe).eval()
    lines = task.test("all")
    lines = Lines(lines.x[:4], lines.y[:4])
    with torch.no_grad():
        before = task.predict(model, lines)
        changed = Lines(lines.x, lines.y.clone())
        changed.y[:, 3] += 1.0
        after = task.predict(model, changed)
    assert torch.equal(before[:, :4], after[:, :4]) and not torch.equal(before[:, 4], after[:, 4])


def test_training_helps() -> None:
    task = Regression(1, 6, rows=32)
    recipe = small(recipes.make("gru", dim=32, depth=1, vocab=task.vocab), task.vocab, task.length)
    learned = learn(recipe, task, 60.0, updates=100)
    assert learned.last("all")[1] < 0.7 * learned.trace["all"][0][1]


def test_counting_has_no_vectors() -> None:
    with pytest.raises(ValueError, match="feeds vectors to the model, and an n-gram counts symbols"):
        probe_score("ngram", "regression", seconds=0.2)
