"""Rows of new tokens learn, and nothing else of their table does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from genus.recipes import make
from genus.recipes.training import AdamW
from genus.train import optimizer
from genus.tune.adapters import TokenRows, attach, detach, learning_rows, merge, unmerge
from genus.tune.methods import DoRA, LoRA

NEW = (58, 60)


@pytest.mark.parametrize("how", [LoRA(rank=2), DoRA(rank=2)], ids=lambda how: how.name)
@pytest.mark.parametrize("name", ["gpt2", "llama", "lstm"])
def test_they_learn_alone_merge_and_come_off(name: str, how: LoRA) -> None:
    recipe = make(name, dim=32, depth=1, heads=4, vocab=61) if name != "lstm" else make(name, dim=32, depth=1, vocab=61)
    torch.manual_seed(0)
    model = recipe.model.build(0)
    start = copy.deepcopy(model.state_dict())
    tied = recipe.model.head.tied
    ids = torch.randint(0, 61, (2, 9))
    ids[0, 3], ids[1, 5] = NEW
    with torch.no_grad():
        before = model(ids)
    how.apply(model, recipe, NEW)
    assert len(learning_rows(model)) == (1 if tied else 2)
    with torch.no_grad():
        assert torch.equal(model(ids), before)
    steps = optimizer.build(AdamW(), model, 1e-2)
    for _ in range(2):
        hidden = model.hidden(ids)
        loss, _ = model.head.loss(hidden, ids.roll(-1, 1))
        loss.backward()
        optimizer.step(steps, torch.ones(()))
        model.zero_grad()
    with torch.no_grad():
        after = model(ids)
        merge(model)
        torch.testing.assert_close(model(ids), after, atol=1e-4, rtol=1e-3)
        unmerge(model)
        assert torch.equal(model(ids), after)
        how.finish(model)
        torch.testing.assert_close(model(ids), after, atol=1e-4, rtol=1e-3)
    end = model.state_dict()
    assert end.keys() == start.keys()
    for table in ("embed.tokens.weight", "head.weight"):
        changed = (end[table] != start[table]).any(1).nonzero()[:, 0].tolist()
        assert changed == list(NEW), table
    assert (model.head.weight is model.embed.tokens.weight) == tied


def test_a_table_that_is_a_target_needs_no_rows() -> None:
    recipe = make("llama", dim=32, depth=1, heads=4, vocab=61)
    model = recipe.model.build(0)
    LoRA(rank=2, targets=("all-linear", "embed.tokens")).apply(model, recipe, NEW)
    assert list(learning_rows(model)) == ([] if recipe.model.head.tied else ["head"])


def test_without_merging_nothing_is_left() -> None:
    model = make("gpt2", dim=32, depth=1, heads=4, vocab=61).model.build(0)
    table = model.embed.tokens.weight
    before = table.detach().clone()
    attach(model, {"embed.tokens": TokenRows(table, NEW)})
    nn.init.ones_(learning_rows(model)["embed.tokens"][1].rows)
    assert not torch.equal(model.head.weight, before)
    detach(model)
    assert model.head.weight is model.embed.tokens.weight is table and torch.equal(table, before)


def test_what_has_no_such_rows() -> None:
    model = make("llama", dim=32, depth=1, heads=4, vocab=61).model.build(0)
    with pytest.raises(ValueError, match="lengthen the table first"):
        TokenRows(model.embed.tokens.weight, (61,))
    q = next(name for name, m in model.named_modules() if name.endswith("q_proj"))
    with pytest.raises(ValueError, match="has no row for each token"):
        attach(model, {q: TokenRows(model.get_submodule(q).weight, (0,))})
