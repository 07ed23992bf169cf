"""The tree with changes, and without."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from genus.recipes import make
from genus.tune.adapters import LowRank, adapted, attach, detach, merge, select


def _changed(model: nn.Module, *targets: str) -> None:
    chosen = select(model, targets)
    attach(model, {name: LowRank(m.weight, 2, 1.0) for name, m in chosen.items()})
    for _, change in adapted(model).values():
        nn.init.normal_(change.lora_B, 0, 0.1)


def test_layers_that_share_their_weights_share_the_change() -> None:
    recipe = make("albert", dim=32, depth=3, heads=4, vocab=61)
    model = recipe.model.build(0).eval()
    _changed(model, "q_proj")
    assert len(adapted(model)) == 1
    ids = torch.randint(0, 61, (2, 9))
    with torch.no_grad():
        before = model(ids)
        merge(model)
        torch.testing.assert_close(model(ids), before)


def test_a_tied_table_is_changed_on_both_sides() -> None:
    model = make("gpt2", dim=32, depth=1, heads=4, vocab=61).model.build(0).eval()
    tied = model.head.weight
    _changed(model, "embed.tokens")
    assert len(adapted(model)) == 1
    assert torch.equal(model.head.weight, model.embed.tokens.weight) and not torch.equal(model.head.weight, tied)
    ids = torch.randint(0, 61, (2, 9))
    with torch.no_grad():
        before = model(ids)
        merge(model)
        detach(model)
        torch.testing.assert_close(model(ids), before)
    assert model.head.weight is model.embed.tokens.weight is tied


def test_the_parameters_are_the_same_objects_before_and_after() -> None:
    """What an optimiser or another module holds stays valid."""
    model = make("lstm", dim=32, depth=1, vocab=61).model.build(0)
    before = {name: id(p) for name, p in model.named_parameters()}
    _changed(model, "attention")
    detach(model)
    assert {name: id(p) for name, p in model.named_parameters()} == before


def test_a_copy_is_adapted_too_and_on_its_own() -> None:
    model = make("llama", dim=32, depth=1, heads=4, vocab=61).model.build(0).eval()
    _changed(model, "all-linear")
    other = copy.deepcopy(model)
    ids = torch.randint(0, 61, (2, 9))
    with torch.no_grad():
        before = model(ids)
        for _, change in adapted(other).values():
            change.lora_B.zero_()
        assert torch.equal(model(ids), before) and not torch.equal(other(ids), before)


def test_one_adapter_at_a_time() -> None:
    model = make("llama", dim=32, depth=1, heads=4, vocab=61).model.build(0)
    _changed(model, "q_proj")
    with pytest.raises(ValueError, match="adapted already; merge and detach"):
        attach(model, {})
