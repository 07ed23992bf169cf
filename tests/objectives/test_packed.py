"""Packed texts: what a text gives does not depend on what stands beside it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from genus.objectives.labelled import Classify, Extract, Regress, Tag, outputs, said
from genus.ops.cross_entropy import IGNORE
from genus.parts.task_head import Pool, TaskHead
from genus.recipes import make


class Example(NamedTuple):
    ids: list[int]
    types: list[int]
    label: Any


def examples(count: int = 12, numbers: bool = False) -> list[Example]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        length = int(rng.integers(3, 15))
        types = [0] * (length - 2) + [1] * 2 if i % 3 == 0 else []
        label: Any = float(rng.normal()) if numbers else int(rng.integers(3))
        made.append(Example(rng.integers(0, 50, length).tolist(), types, label))
    return made


def built(name: str, take: Any, recipe: dict[str, Any], outputs_: int = 3) -> torch.nn.Module:
    model = make(name, vocab=50, context=64, **recipe).model
    torch.manual_seed(0)
    return model.replace(head=TaskHead(outputs_, Pool(take))).build()


SMALL = {"dim": 32, "depth": 2, "heads": 2}


@pytest.mark.parametrize("take", ["first", "last", "mean"])
@pytest.mark.parametrize(
    ("name", "sizes"), [("bert", SMALL), ("gpt2", SMALL), ("llama", SMALL), ("lstm", {"dim": 32, "depth": 1})]
)
@pytest.mark.parametrize("pack", [10_000, 60])
def test_packed_is_padded(name: str, sizes: dict[str, Any], take: str, pack: int) -> None:
    model = built(name, take, sizes)
    rows = examples()
    found = []
    for objective in (Classify(), Classify(pack=pack)):
        model.zero_grad()
        batch = objective.batch(rows)
        loss, count = objective.loss(model, batch)
        loss.backward()
        grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((outputs(model, batch).detach(), loss.detach(), grads))
        assert batch.count == count == len(rows)
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert batch.tokens == sum(len(e.ids) for e in rows)
    assert said(batch).tolist() == [e.label for e in rows]


def test_rows_are_about_equally_full() -> None:
    rows = examples(40)
    tokens = sum(len(e.ids) for e in rows)
    batch = Classify(pack=90).batch(rows)
    assert batch.inputs.shape[0] == math.ceil(tokens / 90)
    assert batch.tokens == tokens > 0.85 * batch.inputs.numel()
    assert Classify(pack=tokens).batch(rows).inputs.shape == (1, tokens)
    pieces = batch.split(1)
    model = built("bert", "first", SMALL)
    sums = [Classify(pack=90).loss(model, piece) for piece in pieces]
    whole = Classify(pack=90).loss(model, batch)
    assert sum(float(s.detach()) for s, _ in sums) == pytest.approx(float(whole[0].detach()), rel=1e-5)
    assert sum(int(n) for _, n in sums) == int(whole[1]) == len(rows)


def test_numbers_and_rows_without_a_label() -> None:
    rows = examples(numbers=True)
    rows[3] = rows[3]._replace(label=math.nan)
    model = built("bert", "first", SMALL, 1)
    losses = [float(o.loss(model, o.batch(rows))[0]) for o in (Regress(spread=2.0), Regress(spread=2.0, pack=1000))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert Regress(pack=1000).batch(rows).count == len(rows) - 1
    classes = examples()
    classes[0] = classes[0]._replace(label=IGNORE)
    assert Classify(pack=1000).batch(classes).count == len(rows) - 1


def test_what_is_not_packed() -> None:
    rows = [e._replace(label=[0] * len(e.ids)) for e in examples()]
    assert Tag(pack=1000).batch(rows).inputs.shape[0] == len(rows)
    spans = [e._replace(label=(0, 1)) for e in rows]
    assert Extract(pack=1000).batch(spans).inputs.shape[0] == len(rows)
    nothing = [*examples(3), Example([], [], 0)]
    assert Classify(pack=1000).batch(nothing).inputs.shape[0] == 4
    assert replace(Classify(pack=1000), start=1).batch(examples(3)).source is not None
