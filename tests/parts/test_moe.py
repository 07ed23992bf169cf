"""Mixture of experts against a loop over positions."""

from __future__ import annotations

import pytest
import torch

from genus.parts.ctx import Ctx
from genus.parts.mlp import MLP
from genus.parts.moe import MoE

CTX = Ctx(torch.arange(6))


@pytest.mark.parametrize(("experts", "top"), [(4, 2), (8, 1), (3, 3), (1, 1)])
def test_against_a_loop(experts: int, top: int) -> None:
    spec = MoE(experts, top, MLP(12, "silu", gated=True))
    moe = spec.build(8)
    for p in moe.parameters():
        torch.nn.init.normal_(p, 0.0, 0.5)
    assert spec.parameters(8) == sum(p.numel() for p in moe.parameters())
    x = torch.randn(2, 6, 8, requires_grad=True)
    expected = []
    for row in x.reshape(-1, 8):
        scores = moe.router.weight @ row
        best = scores.topk(top)
        weights = torch.softmax(best.values, 0)
        expected.append(sum(w * moe.experts[i](row[None], CTX)[0] for w, i in zip(weights, best.indices.tolist(), strict=True)))
    y = moe(x, CTX)
    loop = torch.stack(expected).view_as(x)
    torch.testing.assert_close(y, loop)
    leaves = [x, *moe.parameters()]
    direction = torch.randn_like(y)
    grads = [torch.autograd.grad((out * direction).sum(), leaves, allow_unused=True) for out in (y, loop)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, atol=1e-4, rtol=1e-4)


def test_an_expert_nobody_chose() -> None:
    moe = MoE(3, 1, MLP(4)).build(2)
    for p in moe.parameters():
        torch.nn.init.ones_(p)
    with torch.no_grad():
        moe.router.weight[1:] = -1
    moe(torch.ones(1, 4, 2), CTX).sum().backward()
    assert moe.experts[0].up_proj.weight.grad.abs().max() > 0
    assert (moe.experts[2].up_proj.weight.grad == 0).all()


def test_work_is_that_of_the_chosen() -> None:
    expert = MLP(64, "silu", gated=True)
    assert MoE(8, 2, expert).flops(16, 10) == 2 * expert.flops(16, 10) + 2 * 16 * 8


def test_more_choices_than_experts() -> None:
    with pytest.raises(ValueError, match="top must lie between 1 and 2 experts, not 3"):
        MoE(2, 3)


def test_precision() -> None:
    moe = MoE(4, 2, MLP(8)).build(8)
    for p in moe.parameters():
        torch.nn.init.normal_(p)
    assert moe(torch.randn(1, 5, 8).bfloat16(), CTX).dtype == torch.bfloat16
