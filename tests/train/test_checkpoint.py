"""A checkpoint holds what is trained, and knows what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from genus.recipes import make
from genus.recipes.training import AdamW
from genus.train import checkpoint, optimizer
from genus.tune.methods import Frozen, LoRA, Method

RECIPE = make("gpt2", dim=32, depth=2, heads=4, vocab=61)


def _begin(how: Method, seed: int = 0) -> tuple[nn.Module, optimizer.Optimizers]:
    torch.manual_seed(0)
    model = RECIPE.model.build(0)
    torch.manual_seed(seed)  # what is new may be drawn otherwise: the checkpoint has it
    how.apply(model, RECIPE)
    return model, optimizer.build(AdamW(), model, 1e-2)


def _train(model: nn.Module, optimizers: optimizer.Optimizers, steps: range) -> None:
    for step in steps:
        ids = torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(step))
        total, _ = model.head.loss(model.hidden(ids), ids.roll(-1, 1))
        total.backward()
        optimizer.step(optimizers, torch.ones(()))
        model.zero_grad()


@pytest.mark.parametrize("how", [LoRA(rank=2), Frozen(up_to=1)], ids=lambda how: how.name)
def test_resuming_what_is_partly_frozen_is_not_stopping(how: Method, tmp_path: Path) -> None:
    straight = _begin(how)
    _train(*straight, range(4))

    model, optimizers = _begin(how)
    _train(model, optimizers, range(2))
    path = checkpoint.save(tmp_path, 2, model, optimizers, None, {})
    learns = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(load_file(path / "model.safetensors")) == learns

    again = _begin(how, seed=1)
    checkpoint.restore(path, *again)
    _train(*again, range(2, 4))
    one, other = straight[0].state_dict(), again[0].state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_base_is_noticed(tmp_path: Path) -> None:
    model, optimizers = _begin(LoRA(rank=2))
    path = checkpoint.save(tmp_path, 0, model, optimizers, None, {})
    with torch.no_grad():
        model.embed.tokens.weight[0, 0] += 1e-6
    with pytest.raises(ValueError, match="put the base model back"):
        checkpoint.restore(path, model, optimizers)


def test_a_model_without_the_adapter_is_another(tmp_path: Path) -> None:
    model, optimizers = _begin(LoRA(rank=2))
    path = checkpoint.save(tmp_path, 0, model, optimizers, None, {})
    plain = RECIPE.model.build(0)
    with pytest.raises(ValueError, match="belongs to another model"):
        checkpoint.restore(path, plain, optimizers)
