"""What adapters promise, on every recipe: nothing changes until they learn, they alone learn, and they leave no trace."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from genus.recipes.training import AdamW
from genus.train import optimizer
from genus.tune import adapters
from genus.tune.methods import DoRA, LoRA, Method

CLOSE = {"atol": 2e-4, "rtol": 1e-3}  # as in test_recipes: a sum in another order
SAME = 2e-6


@pytest.mark.exempt("counting", reason="is counted, not descended")
@pytest.mark.parametrize("how", [LoRA(rank=3), DoRA(rank=3)], ids=lambda how: how.name)
def test_adapters_learn_alone_merge_and_come_off(case, how: Method) -> None:
    torch.manual_seed(0)
    model = copy.deepcopy(case.model)
    own = replace(case, model=model)
    ids = case.text(3, 24)
    with torch.no_grad():
        before = own(ids)
    start = {name: t.clone() for name, t in model.state_dict().items()}

    how.apply(model, case.recipe)
    with torch.no_grad():
        assert (own(ids) - before).abs().max() <= SAME
    added = {id(p) for _, change in adapters.adapted(model).values() for p in change.parameters()}
    assert {id(p) for p in model.parameters() if p.requires_grad} == added

    optimizers = optimizer.build(AdamW(), model, 1e-2)
    held = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    assert held == added
    fresh = {name: change.lora_B.detach().clone() for name, (_, change) in adapters.adapted(model).items()}
    for _ in range(2):
        total, count = own.whole_loss(ids, ids.roll(-1, 1))
        (total / count).backward()
        assert all((p.grad is None) == (id(p) not in added) for p in model.parameters())
        optimizer.step(optimizers, torch.ones(()))
        model.zero_grad()
    changes = adapters.adapted(model)
    assert not [name for name, (_, change) in changes.items() if torch.equal(change.lora_B, fresh[name])]

    with torch.no_grad():
        after = own(ids)
        assert (after - before).abs().max() > 1e-3
        low = own(ids, dtype=torch.bfloat16)
        assert (low - after).abs().mean() < 0.1 * after.std()
        adapters.merge(model)
        torch.testing.assert_close(own(ids), after, **CLOSE)
        adapters.unmerge(model)
        assert torch.equal(own(ids), after)
        how.finish(model)
        torch.testing.assert_close(own(ids), after, **CLOSE)
    end = model.state_dict()
    assert set(end) == set(start) and all(p.requires_grad for p in model.parameters())
    weights = {id(weight) for weight, _ in changes.values()}
    touched = {name for name, p in model.state_dict(keep_vars=True).items() if id(p) in weights}
    assert {name for name in start if not torch.equal(start[name], end[name])} == touched


@pytest.mark.exempt("counting", reason="is counted, not descended")
def test_without_merging_nothing_is_left(case) -> None:
    model = copy.deepcopy(case.model)
    LoRA(targets=("all-linear", "head")).apply(model, case.recipe)
    for _, change in adapters.adapted(model).values():
        torch.nn.init.ones_(change.lora_B)
    adapters.detach(model)
    start, end = case.model.state_dict(), model.state_dict()
    assert start.keys() == end.keys() and all(torch.equal(start[name], end[name]) for name in start)
