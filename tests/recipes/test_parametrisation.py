"""Width transfer: the coordinate check (Yang et al. 2022, appendix D.1), and what MuP leaves as it is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genus import recipes
from genus.recipes.parametrisation import MuP, Parametrisation, Standard, roles
from genus.recipes.recipe import Recipe
from genus.recipes.training import SGD, Muon, Training
from genus.spec import apply_overrides, from_json, to_json
from genus.train import optimizer

WIDTHS = (64, 192, 512)
VOCAB, RATE, STEPS = 61, 2e-3, 4
NAMES = ("nnlm", "lstm", "gru", "gpt2", "llama", "deltanet", "gated-deltanet")


def at_width(name: str, dim: int, **sizes: object) -> Recipe:
    """The recipe with two layers and heads of width 32."""
    accepted = recipes.sizes.takes(recipes.get(name))
    given = {"dim": dim, "depth": 2, "heads": dim // 32, "kv_heads": dim // 32, "head_dim": 32, "vocab": VOCAB, "context": 16}
    return recipes.make(name, **{k: v for k, v in (given | sizes).items() if k in accepted})


def new(recipe: Recipe, policy: Parametrisation) -> tuple[Recipe, torch.nn.Module]:
    recipe = policy.rewrite(recipe)
    torch.manual_seed(0)
    model = recipe.model.build(0)
    policy.start(model)
    return recipe, model


def movement(recipe: Recipe, policy: Parametrisation) -> dict[str, float]:
    """How far each layer's output and the logits of the targets move in a few updates on one batch, on average.

    Where there are two optimisers only the first works: Muon, on the hidden matrices.
    """
    recipe, model = new(recipe, policy)
    optimizers = optimizer.build(recipe.training.optimizer, model, RATE, policy)[:1]
    ids = torch.randint(0, VOCAB, (8, 17), generator=torch.Generator().manual_seed(1))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    seen: dict[str, torch.Tensor] = {}
    for i, layer in enumerate(model.stack.layers):
        layer.register_forward_hook(lambda _, __, y, i=i: seen.update({f"layer {i}": y.detach()}))
    first: dict[str, torch.Tensor] = {}
    for step in range(STEPS + 1):
        logits = model(inputs)
        centred = (logits - logits.mean(-1, keepdim=True)).detach()
        # A mean over the targets: what the start's random logits do to single ones fades with the width and says nothing.
        seen["logits"] = centred.gather(-1, targets[..., None]).mean()
        first = first or dict(seen)
        if step == STEPS:
            break
        for o in optimizers:
            o.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimizer.step(optimizers, torch.tensor(1.0))
    return {key: float((seen[key] - first[key]).abs().mean()) for key in seen}


def slopes(rows: Iterable[dict[str, float]], widths: Iterable[int]) -> dict[str, float]:
    """Exponents of the width."""
    rows = list(rows)
    return {key: float(np.polyfit(np.log(list(widths)), np.log([r[key] for r in rows]), 1)[0]) for key in rows[0]}


@pytest.mark.parametrize("name", NAMES)
def test_coordinate_check(name: str) -> None:
    """Updates move features and logits equally far at every width; under Standard the farther, the wider."""
    found = slopes((movement(at_width(name, w), MuP(64)) for w in WIDTHS), WIDTHS)
    assert all(abs(slope) < 0.1 for slope in found.values()), found
    control = slopes((movement(at_width(name, w), Standard()) for w in WIDTHS[:2]), WIDTHS[:2])
    assert all(slope > 0.2 for slope in control.values()) and control["logits"] > 0.6, control


def test_coordinate_check_of_muon() -> None:
    def with_muon(width: int) -> Recipe:
        recipe = at_width("llama", width)
        return recipe.replace(training=recipe.training.replace(optimizer=Muon()))

    found = slopes((movement(with_muon(w), MuP(64)) for w in WIDTHS[:2]), WIDTHS[:2])
    assert all(abs(slope) < 0.2 for slope in found.values()), found  # with Adam's factor -0.4
    control = slopes((movement(with_muon(w), Standard()) for w in WIDTHS[:2]), WIDTHS[:2])
    assert all(slope > 0.4 for slope in control.values()), control


def served(name: str) -> bool:
    training = recipes.make(name).training
    return isinstance(training, Training) and not isinstance(training.optimizer, SGD)


SERVED = [n for n in recipes.names() if served(n)]


@pytest.mark.parametrize("name", SERVED)
def test_at_the_base_width_nothing_changes(name: str) -> None:
    """Bit for bit: start, forward pass, and every setting of the optimiser."""
    recipe = at_width(name, 64)
    _, ours = new(recipe, MuP(64))
    torch.manual_seed(0)
    plain = recipe.model.build(0)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True))
    assert set(MuP(64).scales(plain).values()) == set(Standard().scales(plain).values())


@pytest.mark.parametrize("name", SERVED)
def test_the_start_scales_with_the_width(name: str) -> None:
    """Hidden matrices keep the variance of their sums, tables that of their entries, a read-out loses an order of the width."""
    deviations = []
    for width in (64, 256):
        recipe, model = new(at_width(name, width), MuP(64))
        tags = roles(model)
        found: dict[str, list[float]] = {}
        for key, p in model.named_parameters():
            if tags[key] != "vector" and "relative_bias" not in key:
                multiplier = recipe.model.embed.scale if key == "embed.tokens.weight" else 1.0
                found.setdefault(tags[key], []).append(float((p.detach() * multiplier).square().mean().log2()) / 2)
        deviations.append({role: sum(values) / len(values) for role, values in found.items()})
    assert {"table", "input"} & deviations[0].keys() and "hidden" in deviations[0]
    falls = {"table": 0.0, "input": 0.0, "hidden": -1.0, "readout": -2.0}  # powers of two for four times the width
    for role, deviation in deviations[0].items():
        assert deviations[1][role] - deviation == pytest.approx(falls[role], abs=0.15), role


def test_roles_of_what_does_not_grow() -> None:
    mixtral = at_width("mixtral", 64).model.build(0)
    assert {n.rsplit(".", 2)[-2] for n, role in roles(mixtral).items() if role == "readout"} == {"router", "head"}
    factorised = apply_overrides(at_width("bert", 64), ["model.embed.dim=16", "model.head.transform.outputs=16"]).model.build(0)
    tags = roles(factorised)
    assert tags["embed.tokens.weight"] == tags["embed.projection.weight"] == "input"
    assert MuP(32).scales(factorised)["head.transform.norm.weight"].rate == 1.0, "its read-out does not widen"


@pytest.mark.parametrize("name", ["gpt2", "gpt1", "bert", "gemma2", "t5", "transformer"])
def test_a_tied_read_out_is_scaled_by_the_norm_before_it(name: str) -> None:
    """The specification stays that of the published system; the logits start and move as if divided by the growth."""
    recipe = at_width(name, 64)
    rewritten, ours = new(recipe, MuP(16))
    assert rewritten == recipe
    ids = torch.randint(0, VOCAB, (2, 9))
    source = {"source": ids} if recipe.model.encoder else {}
    torch.manual_seed(0)
    plain = recipe.model.build(0)
    gains = [n for n, s in MuP(16).scales(ours).items() if roles(ours)[n] == "vector" and s.rate != 1.0]
    assert gains and len({n.rpartition(".")[0] for n in gains}) == 1
    for key, p in plain.named_parameters():  # all but those gains as in the scaled model
        if key not in gains:
            p.data.copy_(ours.get_parameter(key).data)
    ratio = ours(ids, **source) / plain(ids, **source)
    softcap = recipe.model.head.softcap
    square_root = {"gemma2", "t5", "transformer"}  # the other half is in their own multiplier
    assert ratio.detach().median().item() == pytest.approx(0.5 if name in square_root else 0.25, rel=1e-3 if softcap else 1e-5)


def test_a_tied_read_out_without_a_norm_gets_a_scale() -> None:
    recipe, model = new(at_width("lstm", 64), MuP(16))
    assert recipe.model.head.scale == 0.25 and model.spec == recipe.model
    ids = torch.randint(0, VOCAB, (2, 9))
    torch.testing.assert_close(model(ids), model.hidden(ids) @ model.embed.tokens.weight.T * 0.25)
    residual = at_width("transformer-residual", 64)
    assert MuP(16).rewrite(residual).model.head.scale == pytest.approx(0.5), "its second stream passes no norm"


def test_what_it_refuses() -> None:
    zaremba = at_width("zaremba", 64)
    assert isinstance(zaremba.training.optimizer, SGD)
    with pytest.raises(ValueError, match="adamw"):
        MuP(64).rewrite(zaremba)
    with pytest.raises(ValueError, match="base"):
        MuP(0)


def test_it_is_a_field_of_the_tree() -> None:
    recipe = at_width("llama", 64)
    assert recipe.training.parametrisation == Standard()
    recipe = apply_overrides(recipe, ["training.parametrisation=MuP", "training.parametrisation.base=48"])
    assert recipe.training.parametrisation == MuP(48)
    assert from_json(to_json(recipe)) == recipe
    old = to_json(recipe)
    del old["training"]["parametrisation"]  # a run of an earlier version
    assert from_json(old).training.parametrisation == Standard()
    with pytest.raises(ValueError, match="did you mean 'MuP'"):
        apply_overrides(recipe, ["training.parametrisation=Mup"])
    with pytest.raises(ValueError, match="Standard has no field 'base'; it has no fields: first set the part"):
        apply_overrides(at_width("llama", 64), ["training.parametrisation.base=48"])


def test_the_rule_for_the_rate_counts_the_base_model() -> None:
    wide, base = at_width("gpt2", 256), at_width("gpt2", 64)
    assert MuP(64).rate_parameters(wide) == pytest.approx(base.parameters_total, rel=0.03)
    assert MuP(64).rate_parameters(base) == Standard().rate_parameters(base) == base.parameters_total
