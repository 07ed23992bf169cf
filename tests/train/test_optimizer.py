"""Every parameter has one optimiser; clipping inside the fused update is clipping."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genus.prepare.dataset import Dataset
from genus.recipes import make
from genus.recipes.parametrisation import LayerDecay, MuP, distances, roles
from genus.recipes.training import SGD, AdamW, Muon, Optimizer
from genus.run import Run, load
from genus.spec import from_json
from genus.train import optimizer
from genus.train.options import TrainOptions
from genus.train.start import resume, start


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


@pytest.mark.parametrize("spec", [AdamW(), Muon()], ids=lambda s: type(s).__name__)
def test_each_group_has_its_share_of_the_rate(spec: Optimizer) -> None:
    """Width 32 is four times the base: the schedule's rate is divided by 4 (Adam) or 2 (Muon) for hidden matrices."""
    model = _model()
    optimizers = optimizer.build(spec, model, 1e-3, MuP(8))
    optimizer.set_rate(optimizers, 2e-3)
    groups = {id(p): g for o in optimizers for g in o.param_groups for p in g["params"]}
    assert len(groups) == len(list(model.parameters()))
    hidden = 2 if isinstance(spec, Muon) else 4
    for name, role in roles(model).items():
        group = groups[id(model.get_parameter(name))]
        assert group["lr"] == 2e-3 / {"hidden": hidden, "readout": 4}.get(role, 1)
        assert group["lr"] * group["weight_decay"] == pytest.approx(0.0 if role == "vector" else 2e-3 * 0.1), "all fade alike"
        if "eps" in group and "ns_steps" not in group:
            assert group["eps"] == pytest.approx(1e-8 if role == "readout" else 1e-8 / 4)


def test_at_the_base_width_the_groups_are_those_of_standard() -> None:
    def plain(spec: Optimizer, *policy: MuP) -> list[dict[str, object]]:
        groups = [g for o in optimizer.build(spec, _model(), 1e-3, *policy) for g in o.param_groups]
        return [{**g, "params": [p.shape for p in g["params"]]} for g in groups]

    for spec in (AdamW(), Muon()):
        assert plain(spec, MuP(32)) == plain(spec)
        assert len(plain(spec)) == (2 if isinstance(spec, AdamW) else 3)


@pytest.mark.parametrize(("name", "kind"), [("gpt2", "gpt2"), ("lstm", "genus")])
def test_a_run_with_mup(name: str, kind: str, corpus: Dataset, tmp_path: Path) -> None:
    """The policy is in run.json, a resumed run is the straight one, and the exported folder is an ordinary one."""
    sizes = ("dim=32", "depth=1", *(["heads=2"] if name == "gpt2" else []))
    policy = ("training.parametrisation=MuP", "training.parametrisation.base=16")
    options = TrainOptions(
        batch=4, context=16, tokens=4 * 16 * 8, save_steps=3, eval_tokens=256, dtype="fp32", overrides=(*sizes, *policy)
    )
    said: list[str] = []
    for run in ("straight", "cut"):
        start(name, corpus.root, tmp_path / run, options, said.append)
    cut = Run.open(tmp_path / "cut")
    recipe = from_json(cut.config["recipe"])
    assert recipe.training.parametrisation == MuP(16)
    assert any("base width" in line for line in said) == (name == "gpt2")  # the LSTM's recipe has a rate of its own
    shutil.rmtree(tmp_path / "cut/model")
    shutil.rmtree(tmp_path / "cut/checkpoints/step-8")
    del cut.config["finished"]
    cut.save()
    resume(tmp_path / "cut", said.append)
    a, b = (load_file(tmp_path / run / "model/model.safetensors") for run in ("straight", "cut"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert json.loads((tmp_path / "cut/model/config.json").read_text())["model_type"] == kind
    again = load(tmp_path / "cut")
    assert again.spec == recipe.model and again.spec.head.scale == (1.0 if name == "gpt2" else 0.5)
    further = start(str(tmp_path / "cut"), corpus.root, tmp_path / "further", TrainOptions(tokens=128, batch=4), said.append)
    assert from_json(further.config["recipe"]).model == recipe.model, "a trained model is not scaled again"


def test_what_is_frozen_has_no_place() -> None:
    model = _model()
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen"):
        optimizer.build(AdamW(), model, 1e-3)
    model.stack.layers[0].parts[0].q_proj.weight.requires_grad_(True)
    for spec in (AdamW(), Muon(), SGD()):
        (found,) = optimizer.build(spec, model, 1e-3)
        assert [p.shape for g in found.param_groups for p in g["params"]] == [(32, 32)]
    model.requires_grad_(False)
    model.embed.requires_grad_(True)
    (found,) = optimizer.build(Muon(), model, 1e-3)
    assert isinstance(found, torch.optim.AdamW)
    _backward(model)
    assert optimizer.gradient_norm(model.parameters()) == model.embed.tokens.weight.grad.norm()


def test_rates_fall_from_layer_to_layer() -> None:
    model = make("bert", dim=32, depth=3, heads=2, vocab=40).model.build(0)
    (adam,) = optimizer.build(AdamW(), model, 1e-3, LayerDecay(0.5))
    rates = {id(p): g["lr"] for g in adam.param_groups for p in g["params"]}
    found = {n: rates[id(p)] / 1e-3 for n, p in model.named_parameters()}
    assert found["head.transform.proj.weight"] == 1
    assert [found[f"stack.layers.{i}.parts.0.q_proj.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert found["embed.tokens.weight"] == found["embed.norm.weight"] == 0.0625
    optimizer.set_rate([adam], 1e-4)
    assert {g["lr"] for g in adam.param_groups} == {1e-4 * 0.5**i for i in range(5)}


def test_an_encoder_lies_below_its_decoder() -> None:
    far = distances(make("t5", dim=32, depth=2, heads=2, vocab=40).model.build(0))
    assert [far[f"stack.layers.{i}.parts.0.q_proj.weight"] for i in range(2)] == [2, 1]
    assert [far[f"encoder.layers.{i}.parts.0.q_proj.weight"] for i in range(2)] == [4, 3]
    assert far["embed.tokens.weight"] == 5 and far["stack.final.weight"] == 0
