"""Matrices of one shape together, as torch has them one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from genus.train import muon

SHAPES = ((12, 12), (12, 30), (12, 12), (30, 12), (12, 30), (12, 12), (1, 5))


def _parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


@pytest.mark.parametrize("together", [1, 2 * 144, 2**19])
def test_steps_are_those_of_torch(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several steps, with one that has no gradient in the second, and a state that either of them can go on with."""
    monkeypatch.setattr(muon, "TOGETHER", together)
    ours = _parameters()
    theirs, start = copy.deepcopy(ours), copy.deepcopy(ours)
    group = {"weight_decay": 0.1}
    mine = muon.Muon([{"params": ours, **group}], 1e-2, 0.9)
    peer = torch.optim.Muon([{"params": theirs, **group}], lr=1e-2, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        if step == 1:
            ours[2].grad = theirs[2].grad = None
        if step == 3:
            mine.load_state_dict(copy.deepcopy(peer.state_dict()))
        mine.step()
        peer.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.03 * (b - before).norm()
        torch.testing.assert_close(mine.state[a]["momentum_buffer"], peer.state[b]["momentum_buffer"])


def test_how_many_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "TOGETHER", 300)
    parameters = _parameters()
    found = list(muon._together(iter(parameters)))
    assert [len(m) for m in found] == [2, 1, 1, 1, 1, 1]
    assert all(len({p.shape for p in m}) == 1 for m in found)
    assert sorted(id(p) for m in found for p in m) == sorted(map(id, parameters))


def test_a_closure_is_evaluated_with_gradients() -> None:
    (p,) = [nn.Parameter(torch.randn(4, 4))]
    optimizer = muon.Muon([{"params": [p]}], 1e-2, 0.9)

    def closure() -> torch.Tensor:
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0 and p in optimizer.state
