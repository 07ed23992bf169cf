"""Packing wastes little, loses nothing, and a packed batch is the same lesson as its examples one by one."""

import random

import pytest
import torch

import genus
from genus.objectives.answers import Answers
from genus.tune.packing import Packed
from genus.tune.task import Example

IGNORE = -100


def example(length: int, dice: random.Random, vocab: int = 60) -> Example:
    ids = [dice.randrange(vocab) for _ in range(length)]
    label = [token if dice.random() < 0.5 else IGNORE for token in ids]
    return Example(ids, [], label)


@pytest.fixture
def examples() -> list[Example]:
    dice = random.Random(3)
    return [example(dice.randint(2, 40), dice) for _ in range(200)]


def test_every_example_once_in_each_pass_and_rows_are_full(examples: list[Example]) -> None:
    packed = Packed(examples, batch=1, length=48, seed=1)
    passes = int(packed.steps_per_epoch)
    for first in (0, passes):
        seen = [e.ids for step in range(first, first + passes) for row in packed(step) for e in row]
        assert sorted(seen) == sorted(e.ids for e in examples)
    assert all(sum(len(e.ids) - 1 for e in row) <= 48 for step in range(passes) for row in packed(step))
    assert packed.filled > 0.97
    assert [packed(s) for s in range(passes)] != [packed(s) for s in range(passes, 2 * passes)]
    again = Packed(examples, batch=1, length=48, seed=1)
    assert again(7) == packed(7) and Packed(examples, batch=1, length=48, seed=2)(7) != packed(7)


@pytest.mark.parametrize("name", ["llama", "gpt2", "lstm", "deltanet"])
def test_packed_is_apart(name: str, examples: list[Example]) -> None:
    """The loss of a packed batch is the sum of its examples' own, for models with attention, recurrence and fast weights."""
    model = genus.recipe(name, dim=32, depth=2, heads=2, vocab=60, context=64).model.build(0).eval()
    objective = Answers()
    rows = Packed(examples, batch=3, length=48)(0)
    batch = objective.batch(rows)
    with torch.no_grad():
        total, count = objective.loss(model, batch)
        alone = [objective.loss(model, objective.batch([e])) for row in rows for e in row]
    assert int(count) == sum(int(n) for _, n in alone) == sum(i != IGNORE for row in rows for e in row for i in e.label[1:])
    assert torch.allclose(total, torch.stack([loss for loss, _ in alone]).sum(), rtol=1e-5)


def test_only_marked_tokens_teach() -> None:
    model = genus.recipe("llama", dim=32, depth=2, heads=2, vocab=60, context=64).model.build(0).eval()
    ids = list(range(10))
    batch = Answers().batch([Example(ids, [], [IGNORE] * 7 + [7, 8, IGNORE])])
    assert batch.inputs.tolist() == [ids[:-1]] and batch.doc is None
    assert batch.targets.tolist() == [[IGNORE] * 6 + [7, 8, IGNORE]]
    loss, count = Answers().loss(model, batch)
    scores = model(batch.inputs).log_softmax(-1)
    assert int(count) == 2 and torch.allclose(loss, -(scores[0, 6, 7] + scores[0, 7, 8]), atol=1e-5)
