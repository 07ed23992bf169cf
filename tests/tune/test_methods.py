"""Which parameters learn, and how fast."""

from __future__ import annotations

import pytest
import torch

from genus.parts.task_head import TaskHead
from genus.recipes import make
from genus.spec import from_json, to_json
from genus.tune.methods import DoRA, Frozen, Full, LoRA, Method, method
from genus.tune.options import TuneOptions

RECIPE = make("bert", dim=32, depth=3, heads=2, vocab=40)
TUNED = RECIPE.replace(model=RECIPE.model.replace(head=TaskHead(3)))


def _learns(how: Method, recipe=TUNED) -> set[str]:
    model = recipe.model.build(0)
    how.apply(model, recipe)
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_frozen_up_to_a_layer() -> None:
    every = {name for name, _ in TUNED.model.build(0).named_parameters()}
    head = {name for name in every if name.startswith("head.")}
    assert _learns(Frozen()) == head and _learns(Full()) == every
    assert _learns(Frozen(up_to=3)) == head
    assert _learns(Frozen(up_to=2)) == head | {name for name in every if name.startswith("stack.layers.2.")}
    assert every - _learns(Frozen(up_to=0)) == {name for name in every if name.startswith("embed.")}
    with pytest.raises(ValueError, match="3 layers; freeze 0 to 3"):
        _learns(Frozen(up_to=4))


def test_an_adapter_learns_with_a_new_read_out_but_not_with_the_vocabularys() -> None:
    tuned, kept = _learns(LoRA(rank=2)), _learns(LoRA(rank=2), RECIPE)
    assert {name for name in tuned if ".change." not in name} == {n for n in tuned if n.startswith("head.")} != set()
    assert all(".change." in name for name in kept)


@pytest.mark.parametrize("how", [Full(0.9), Frozen(), Frozen(up_to=2), LoRA(), DoRA()], ids=lambda how: how.name)
def test_everything_learns_again_in_the_end(how: Method) -> None:
    model = TUNED.model.build(0)
    names = set(model.state_dict())
    how.apply(model, TUNED)
    how.finish(model)
    assert set(model.state_dict()) == names and all(p.requires_grad for p in model.parameters())


def test_rates() -> None:
    model = TUNED.model.build(0)
    assert not Full().rates(model)
    rates = Full(0.5).rates(model)
    assert rates["head.proj.weight"] == 1 and rates["stack.layers.0.norms.0.weight"] == 0.125


def test_options_and_json() -> None:
    options = TuneOptions(method="dora", rank=4, targets=("attention",))
    how = method(options)
    assert isinstance(how, DoRA) and how.dora and (how.rank, how.targets) == (4, ("attention",))
    assert from_json(to_json(how)) == how
    assert method(TuneOptions(method="lora")) == LoRA(8, 16.0)
    with pytest.raises(ValueError, match="did you mean 'lora'"):
        method(TuneOptions(method="lorra"))
    with pytest.raises(ValueError, match="rank"):
        LoRA(rank=0)


def test_an_adapter_has_a_small_share_of_the_parameters() -> None:
    model = make("bert", dim=256, depth=4, heads=4, vocab=1000).model.build(0)
    total = sum(p.numel() for p in model.parameters())
    LoRA().apply(model, RECIPE)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) < 0.06 * total
    assert isinstance(model, torch.nn.Module)
