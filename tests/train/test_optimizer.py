"""Every parameter has one optimiser; clipping inside the fused update is clipping."""

from __future__ import annotations

import copy

import pytest
import torch

from genus.recipes import make
from genus.recipes.training import SGD, AdamW, Muon, Optimizer
from genus.train import optimizer


def _model() -> torch.nn.Module:
    return make("llama", dim=32, depth=2, heads=2, vocab=40).model.build(0)


def _backward(model: torch.nn.Module) -> None:
    ids = torch.arange(24).view(2, 12)
    model(ids).square().mean().backward()


@pytest.mark.parametrize("spec", [AdamW(), Muon(), SGD()], ids=lambda s: type(s).__name__)
def test_every_parameter_is_owned_once(spec: Optimizer) -> None:
    model = _model()
    owned = [id(p) for o in optimizer.build(spec, model, 1e-3) for g in o.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_decay_falls_on_matrices_only() -> None:
    (adam,) = optimizer.build(AdamW(weight_decay=0.1), _model(), 1e-3)
    for group in adam.param_groups:
        assert all((p.dim() > 1) == (group["weight_decay"] > 0) for p in group["params"])


def test_muon_takes_the_hidden_matrices_only() -> None:
    model = _model()
    muon, adam = optimizer.build(Muon(), model, 1e-3)
    names = {id(p): n for n, p in model.named_parameters()}
    assert all(names[id(p)].startswith("stack.") for g in muon.param_groups for p in g["params"])
    assert {"embed.tokens.weight", "head.weight"} <= {names[id(p)] for g in adam.param_groups for p in g["params"]}


@pytest.mark.parametrize("spec", [AdamW(), Muon(), SGD()], ids=lambda s: type(s).__name__)
def test_divisor_is_clipping(spec: Optimizer) -> None:
    ours = _model()
    plain, start = copy.deepcopy(ours), copy.deepcopy(ours)
    for model in (ours, plain):
        _backward(model)
    norm = optimizer.gradient_norm(ours.parameters())
    limit = float(norm) / 3
    optimizer.step(optimizer.build(spec, ours, 1e-2), (norm / limit).clamp(min=1))
    assert torch.nn.utils.clip_grad_norm_(plain.parameters(), limit).item() == pytest.approx(float(norm), rel=1e-5)
    for o in optimizer.build(spec, plain, 1e-2):
        o.step()
    # Muon multiplies in bf16, which rounds a gradient and a third of it differently.
    allowed = 0.05 if isinstance(spec, Muon) else 1e-3
    for a, b, before in zip(ours.parameters(), plain.parameters(), start.parameters(), strict=True):
        assert (a - b).norm() <= allowed * (b - before).norm() + 1e-7
