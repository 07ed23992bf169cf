"""The read-out of a task."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genus.parts.head import Head
from genus.parts.model import Model
from genus.parts.task_head import Pool, TaskHead, Vectors, one_vector


def test_pools_look_past_the_padding() -> None:
    hidden = torch.arange(24.0).view(2, 4, 3)
    doc = torch.tensor([[0, 0, 0, 0], [0, 0, -1, -1]])
    first, last, mean, most = (Pool(take, dense=False).build(3)(hidden, doc) for take in ("first", "last", "mean", "max"))
    assert first.equal(hidden[:, 0])
    assert last.equal(torch.stack([hidden[0, 3], hidden[1, 1]]))
    assert mean.equal(torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)]))
    assert most.equal(last), "the numbers grow"
    assert (-one_vector("max", -hidden, doc)).equal(first)
    assert Pool("last", dense=False).build(3)(hidden, None).equal(hidden[:, 3])


@pytest.mark.parametrize("take", ["first", "last", "mean", "max"])
def test_texts_that_share_a_row(take: Any) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 5, 3, requires_grad=True)
    found = one_vector(take, hidden, torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 0, -1]]))
    alone = torch.cat([one_vector(take, part) for part in (hidden[:1, :2], hidden[:1, 2:], hidden[1:, :4])])
    assert torch.allclose(found, alone)
    weight = torch.randn(3, 3)
    ours, theirs = (torch.autograd.grad((x * weight).sum(), hidden, retain_graph=True)[0] for x in (found, alone))
    assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("head", [TaskHead(3), TaskHead(5, pool=None, bias=False), TaskHead(2, Pool("mean", dense=False))])
def test_a_model_with_a_task_instead_of_a_vocabulary(head: TaskHead) -> None:
    spec = Model(dim=16, head=head)
    model = spec.build()
    assert spec.parameters() == sum(p.numel() for p in model.parameters())
    ids = torch.randint(0, 256, (2, 6))
    shape = (2, head.outputs) if head.pool else (2, 6, head.outputs)
    assert model(ids).shape == shape
    short = model(ids[:, :4])
    doc = torch.tensor([[0, 0, 0, 0, -1, -1]] * 2)
    assert torch.allclose(model(ids, doc)[..., :4, :] if head.pool is None else model(ids, doc), short, atol=1e-5)


def test_a_second_read_out() -> None:
    spec = Model(dim=16, head=Head(bias=True, task=TaskHead(2)))
    model = spec.build()
    assert spec.parameters() == sum(p.numel() for p in model.parameters())
    assert model.head.task(model.hidden(torch.zeros(3, 5, dtype=torch.long))).shape == (3, 2)


@pytest.mark.parametrize("pool", [None, Pool("first")])
def test_no_read_out(pool: Pool | None) -> None:
    spec = Model(dim=16, head=Vectors(pool))
    model = spec.build()
    assert spec.parameters() == sum(p.numel() for p in model.parameters())
    ids = torch.randint(0, 256, (2, 5))
    assert torch.equal(model(ids), model.hidden(ids))
    if pool is not None:  # the same name as in the head of a task, so that tuning may go on from it
        assert model.head.pool.proj.weight.shape == spec.replace(head=TaskHead(3, pool)).build().head.pool.proj.weight.shape
