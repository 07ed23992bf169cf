"""Associative recall: the rows, a model that looks up, one that does not, and the bytes of the state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from genus import recipes
from genus.evaluate.probes.learning import learn
from genus.evaluate.probes.recall import SYMBOLS, Recall, rows, state_bytes
from genus.evaluate.probes.small import small
from genus.parts.ngram import NGram


def test_rows() -> None:
    sample = rows(np.random.default_rng(0), 20, 8)
    assert sample.tokens.shape == (20, 32) and sample.asked.sum(1).tolist() == [8] * 20
    for tokens, asked in zip(sample.tokens, sample.asked, strict=True):
        keys, values = tokens[:16:2], tokens[1:16:2]
        known = dict(zip(keys, values, strict=True))
        assert len(known) == 8 and keys.min() >= 1 and keys.max() <= SYMBOLS < values.min() and values.max() < Recall.vocab
        assert sorted(tokens[16::2]) == sorted(keys)
        assert [known[k] for k in tokens[16::2]] == tokens[asked].tolist()
    assert len({tuple(t[16::2]) for t in sample.tokens}) == 20  # in another order each time


def test_tests_are_fixed_and_batches_are_not() -> None:
    task = Recall((4, 8))
    assert (task.test("8").tokens == task.test("8").tokens).all()
    rng = np.random.default_rng(0)
    sizes = {task.batch(rng).tokens.shape[1] for _ in range(20)}
    assert sizes == {16, 32} and task.length == 32


def test_a_model_that_looks_up_and_one_that_does_not(copier) -> None:
    task = Recall((4, 16))
    for level in task.levels:
        score, loss = task.measure(copier(task.vocab, 1), task.test(level))
        assert score == 1.0 and loss < 0.01
        score, loss = task.measure(copier(task.vocab, 0), task.test(level))
        assert score < 0.1 and loss == pytest.approx(math.log(task.vocab), rel=1e-3)


def test_counting_cannot_recall() -> None:
    task = Recall((8,))
    learned = learn(small("ngram", task.vocab, task.length), task, seconds=0.2)
    assert isinstance(learned.model, NGram.Module) and learned.last("8")[0] < 0.25
    assert learned.curve("recalled", "loss") is None and "counted on" in learned.notes[0]


def test_a_delta_rule_learns_to_recall() -> None:
    """Two pairs of few symbols, in a hundred updates."""
    task = Recall((2,))
    learned = learn(recipes.make("deltanet", dim=32, depth=1, heads=1, vocab=task.vocab), _Quick(task), 60.0, updates=100)
    assert learned.last("2")[0] > 0.6
    curve = learned.curve("recalled", "loss (nats)")
    assert curve.x[0] == 1 and curve.x[-1] == 100 and curve.loss[-1] < curve.loss[0]


class _Quick(Recall):
    """Few rows in a batch."""

    def __init__(self, task: Recall) -> None:
        super().__init__(task.pairs)

    def batch(self, rng):
        return rows(rng, 32, self.pairs[0], symbols=8)

    def test(self, level):
        return rows(np.random.default_rng(1), 64, self.pairs[0], symbols=8)


def test_bytes_of_state() -> None:
    def size(name: str, length: int) -> int:
        return state_bytes(small(name, 129, 256).model.build(), length)

    assert size("llama", 256) == 2 * 2 * 256 * 64 * 4  # layers, keys and values, positions, width, bytes
    assert size("llama", 16) * 16 == size("llama", 256)
    assert size("lstm", 16) == size("lstm", 256) == 2 * 2 * 64 * 4  # layers, state and cell, width, bytes
    deltanet = small("deltanet", 129, 256).model
    assert size("deltanet", 16) == size("deltanet", 256) < size("llama", 256)
    state = deltanet.build().init_state(1, 256)
    assert size("deltanet", 256) == sum(4 * t.numel() for layer in state["layers"] for t in _tensors(layer))
    assert state_bytes(NGram(order=5, vocab=9).build(), 256) == 2 * 4 * 8


def _tensors(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if value is None:
        return []
    return [t for v in (value.values() if isinstance(value, dict) else value) for t in _tensors(v)]
