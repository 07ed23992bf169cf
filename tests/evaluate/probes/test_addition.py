"""Sums: how they are written, what is held out, a model that adds and one that does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from genus import recipes
from genus.evaluate.probes import probe_score
from genus.evaluate.probes.addition import EQUALS, PLUS, Addition
from genus.evaluate.probes.learning import learn
from genus.evaluate.probes.small import small


def _read(tokens: np.ndarray, digits: int, reverse: bool) -> tuple[int, int, int]:
    def number(symbols: np.ndarray) -> int:
        return int("".join(str(s - 1) for s in symbols))

    assert tokens[digits] == PLUS and tokens[2 * digits + 1] == EQUALS
    total = tokens[2 * digits + 2 :]
    return number(tokens[:digits]), number(tokens[digits + 1 : 2 * digits + 1]), number(total[::-1] if reverse else total)


class Adder(nn.Module):
    """Knows how to add, written either way."""

    def __init__(self, reverse: bool) -> None:
        super().__init__()
        self.spec, self.head, self.reverse = small("llama", Addition.vocab, 15).model, nn.Identity(), reverse

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*ids.shape, Addition.vocab)
        digits = ids.shape[1] // 3 - 1
        for row, symbols in enumerate(ids.tolist()):
            a, b = symbols[1 : digits + 1], symbols[digits + 2 : 2 * digits + 2]
            total = sum(int("".join(str(s - 1) for s in n)) for n in (a, b))
            written = [int(c) + 1 for c in f"{total:0{digits + 1}d}"]
            for place, symbol in enumerate(written[::-1] if self.reverse else written):
                logits[row, 2 * digits + 2 + place, symbol] = 20.0
        return logits


@pytest.mark.parametrize("reverse", [False, True])
def test_sums(reverse: bool) -> None:
    task = Addition(reverse)
    for level in task.levels:
        sample = task.test(level)
        for tokens, asked in list(zip(sample.tokens, sample.asked, strict=True))[:50]:
            a, b, total = _read(tokens, int(level), reverse)
            assert a + b == total and asked.sum() == int(level) + 1 and asked[-1]
    assert task.test("4").tokens.shape[1] == task.length


def test_held_out_sums_are_never_trained_on() -> None:
    task, rng = Addition(False, (1,)), np.random.default_rng(0)
    seen = {_read(t, 1, False)[:2] for _ in range(20) for t in task.batch(rng).tokens}
    held = {_read(t, 1, False)[:2] for t in task.test("1").tokens}
    assert not seen & held and len(seen) + len(held) == 100 and 5 <= len(held) <= 20


@pytest.mark.parametrize("reverse", [False, True])
def test_a_model_that_adds_and_one_that_does_not(reverse: bool, copier) -> None:
    task = Addition(reverse)
    for level in task.levels:
        assert task.measure(Adder(reverse), task.test(level))[0] == 1.0
        assert task.measure(copier(task.vocab, 0), task.test(level))[0] < 0.05
    # written the other way, only sums that read the same both ways are right
    assert task.measure(Adder(not reverse), task.test("4"))[0] < 0.1


def test_counting_does_not_add() -> None:
    found = probe_score("ngram", "addition", seconds=0.2)
    assert found.score < 0.05 and found.figures["right, 4 digits"] == 0.0


def test_training_helps() -> None:
    task = Addition(True, (1,), rows=32)
    recipe = small(recipes.make("gru", dim=32, depth=1, vocab=task.vocab), task.vocab, task.length)
    losses = [loss for _, loss in learn(recipe, task, 60.0, updates=30).trace["1"]]
    assert losses[-1] < 0.85 * losses[0]
