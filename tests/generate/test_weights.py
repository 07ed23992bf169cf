"""Models whose matrices are stored for decoding: what is stored, what it costs, and that every recipe generates so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import genus
from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.generate.sequence import Request
from genus.generate.weights import Table, describe_paths, ready
from genus.ops import packed
from genus.ops.packed import Packed, Tiles
from genus.run import Loaded

RECIPES = [s.name for s in genus.recipes.systems() if s.generates and s.branch != "counting"]
FORMATS = ("bf16", "int8", "int4")
BITS = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4}


@pytest.fixture(params=["native", "torch"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the kernel in C where it can be had, and without."""
    if request.param == "torch":
        monkeypatch.setattr(packed, "kernel", lambda: None)
    return str(request.param)


@torch.inference_mode()
def _logits(model: Any, loaded: Loaded, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    ids = torch.tensor([[256, *b"In the beginning God created"]])
    given = {"source": ids} if getattr(loaded.spec, "encoder", None) is not None else {}
    return model(ids, dtype=dtype, **given).log_softmax(-1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_in_every_format(small: Callable[..., Loaded], either_way: str, name: str) -> None:
    """It generates, and its distributions are the nearer to the model's own, the more bits there are."""
    loaded = small(name, dim=64)
    rewrites = getattr(loaded.spec, "encoder", None) is not None
    own = _logits(loaded.model, loaded)
    divergence = []
    for weights in FORMATS:
        model = ready(loaded.model, weights)
        other = _logits(model, loaded)
        divergence.append(float((own.exp() * (own - other)).sum(-1).mean()))
        engine = Engine(model, loaded.tokenizer, dtype=torch.bfloat16 if weights == "bf16" else torch.float32)
        asked = [Request((256, *text), 6, Sampling(0), source=(*text, 256) if rewrites else None) for text in (b"In", b"And God")]
        done = [row for _, _, row in engine.run(asked) if row.finish is not None]
        assert len(done) == 2 and all(row.new_ids for row in done)
    half, eight, four = divergence
    assert 0 <= half < 0.01 and eight < 0.05 and four < 1.0 and half < four


def test_the_model_itself_is_left_alone(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2")
    before = {name: p.clone() for name, p in loaded.model.state_dict().items()}
    own = _logits(loaded.model, loaded)
    for weights in FORMATS:
        ready(loaded.model, weights)
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.state_dict().items())
    assert torch.equal(_logits(loaded.model, loaded), own)
    assert ready(loaded.model, "fp32") is loaded.model


def test_a_copy_does_not_follow_further_training(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2")
    model = ready(loaded.model, "int8")
    before = _logits(model, loaded)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(1.0)
    assert torch.equal(_logits(model, loaded), before)


@pytest.mark.parametrize("weights", FORMATS)
def test_a_tied_table_is_stored_once(small: Callable[..., Loaded], either_way: str, weights: str) -> None:
    loaded = small("gpt2")
    model = ready(loaded.model, weights)
    assert loaded.model.head.weight is loaded.model.embed.tokens.weight
    assert model.head.weight is model.embed.tokens.weight
    if isinstance(model.head.weight, Packed):
        assert isinstance(model.embed.tokens, Table)
        assert model.head.weight.format == ("int8" if weights == "int4" else weights)
        ids = torch.tensor([[0, 256], [17, 17]])
        own = loaded.model.embed.tokens(ids).detach()
        torch.testing.assert_close(model.embed.tokens(ids), own, atol=float(own.abs().max()) / 100, rtol=0.01)
    kinds = [p.name for p in describe_paths(model)]
    assert kinds.count("head.weight") == 1 and "embed.tokens.weight" not in kinds


def test_a_table_of_its_own_stays_a_table(small: Callable[..., Loaded]) -> None:
    model = ready(small("llama").model, "int4")
    assert isinstance(model.embed.tokens, nn.Embedding) and model.embed.tokens.weight.dtype == torch.bfloat16


def test_vectors_and_positions_stay(small: Callable[..., Loaded]) -> None:
    own = small("gpt2").model
    model = ready(own, "int4")
    kept = dict(model.named_parameters())
    for name, parameter in own.named_parameters():
        if parameter.dim() == 1 or name == "embed.positions.weight":
            assert torch.equal(kept[name], parameter) and kept[name] is not parameter


def test_small_matrices_stay_in_bf16(small: Callable[..., Loaded]) -> None:
    """The router of a mixture of experts has a row for each expert: rounding it saves nothing and may send tokens elsewhere."""
    model = ready(small("mixtral", experts=4).model, "int4")
    stored = {p.name: p.stored for p in describe_paths(model)}
    assert next(v for k, v in stored.items() if "router" in k) == "bf16"
    assert next(v for k, v in stored.items() if "experts" in k) == "int4"


def test_recurrent_matrices_are_stored_too(small: Callable[..., Loaded], either_way: str) -> None:
    loaded = small("lstm")
    stored = {p.name.rsplit(".", 1)[1]: p for p in describe_paths(ready(loaded.model, "int8"))}
    assert stored["weight_hh"].stored == "int8" and stored["weight_hh"].path in ("native", "int8pack")


def test_sizes(small: Callable[..., Loaded]) -> None:
    """Bytes fall with the bits: 4.5 in int4, of which half a bit is for the scales."""
    loaded = small("llama", dim=256, vocab=257)
    size = {w: sum(p.bytes for p in describe_paths(ready(loaded.model, w)) if "layers" in p.name) for w in BITS}
    assert size["bf16"] == size["fp32"] / 2
    assert 0.25 < size["int8"] / size["fp32"] < 0.262
    assert 4.5 / 32 <= size["int4"] / size["fp32"] < 4.6 / 32


def test_paths(small: Callable[..., Loaded], either_way: str) -> None:
    model = ready(small("llama", dim=128).model, "int8")
    kinds = describe_paths(model)
    native = any(isinstance(module.__dict__.get("weight"), Tiles) for module in model.modules())
    assert native == (either_way == "native" and packed.kernel() is not None)
    (q,) = [p for p in kinds if p.name.endswith("q_proj.weight")]
    assert (q.shape, q.stored, q.count, q.path) == ((128, 128), "int8", 2, "native" if native else "int8pack")
    assert "q_proj.weight" in str(q) and "int8" in str(q) and q.path in str(q)
    (table,) = [p for p in kinds if p.name == "embed.tokens.weight"]
    assert (table.stored, table.path) == ("bf16", "lookup")


def test_an_unknown_format() -> None:
    with pytest.raises(ValueError, match="weights 'int2' must be one of fp32, bf16, int8, int4"):
        ready(nn.Module(), "int2")


def test_a_model_without_matrices_is_returned_as_it_is() -> None:
    model = nn.Module()
    model.register_buffer("counts", torch.zeros(4, 4))
    assert ready(model, "int4") is model
