"""Spec: the tree of values that Python, run.json and the command line share."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus import recipes
from genus.parts.attention import Attention, Score
from genus.parts.block import Block, Stack
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.norm import LayerNorm, Norm, RMSNorm
from genus.parts.positions import Alibi, Rotary, RotaryScaling
from genus.parts.wiring import ResiDual
from genus.spec import (
    MAX_FIELDS,
    REGISTRY,
    Spec,
    apply_overrides,
    diff,
    flatten,
    from_json,
    override,
    part,
    rewrite,
    to_json,
    walk,
)

MODEL = Model(stack=Stack((Block((Attention(4, position=Rotary()), MLP())), Block((Attention(4, window=8), MLP())))))


@pytest.mark.parametrize("name", sorted(n for n in REGISTRY if REGISTRY[n].__module__.startswith("genus.")))
def test_every_part_is_small_and_frozen(name: str) -> None:
    cls = REGISTRY[name]
    assert len(dataclasses.fields(cls)) <= MAX_FIELDS
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls().anything = 1
    value = recipes.make("gpt2") if cls is recipes.Recipe else cls()
    assert from_json(json.loads(json.dumps(to_json(value)))) == value
    assert cls.__doc__ and not cls.__doc__.startswith(f"{name}(")  # not the one that dataclass makes up


@pytest.mark.parametrize(
    ("path", "text", "get", "value"),
    [
        ("dim", "96", lambda m: m.dim, 96),
        ("dim", "1_024", lambda m: m.dim, 1024),
        ("stack.depth", "8", lambda m: m.stack.depth, 8),
        ("stack.share", "true", lambda m: m.stack.share, True),
        ("stack.share", "No", lambda m: m.stack.share, False),
        ("stack.final", "none", lambda m: m.stack.final, None),
        ("stack.final", "LayerNorm", lambda m: m.stack.final, LayerNorm()),
        ("stack.blocks.1.wiring", "ResiDual", lambda m: m.stack.blocks[1].wiring, ResiDual()),
        ("stack.blocks.0.wiring", "ResiDual", lambda m: m.stack.blocks[1].wiring, MODEL.stack.blocks[1].wiring),
        ("stack.blocks.*.dropout", "0.1", lambda m: [b.dropout for b in m.stack.blocks], [0.1, 0.1]),
        ("stack.blocks.*.parts.0.heads", "2", lambda m: [b.parts[0].heads for b in m.stack.blocks], [2, 2]),
        ("stack.blocks.0.parts.0.position", "Alibi", lambda m: m.stack.blocks[0].parts[0].position, Alibi()),
        ("stack.blocks.0.parts.0.position", "null", lambda m: m.stack.blocks[0].parts[0].position, None),
        ("stack.blocks.0.parts.0.position.theta", "1e6", lambda m: m.stack.blocks[0].parts[0].position.theta, 1e6),
        ("stack.blocks.0.parts.0.score.norm", "RMSNorm", lambda m: m.stack.blocks[0].parts[0].score.norm, RMSNorm()),
        ("stack.blocks.0.parts.1.hidden", "2.5", lambda m: m.stack.blocks[0].parts[1].hidden, 2.5),
        ("stack.blocks.0.parts.1.hidden", "7", lambda m: m.stack.blocks[0].parts[1].hidden, 7),
        ("stack.blocks.0.parts.1.act", "silu", lambda m: m.stack.blocks[0].parts[1].act, "silu"),
        ("init.kind", "uniform", lambda m: m.init.kind, "uniform"),
    ],
)
def test_override(path: str, text: str, get: Any, value: Any) -> None:
    changed = override(MODEL, path, text)
    assert get(changed) == value and type(get(changed)) is type(value)
    assert from_json(json.loads(json.dumps(to_json(changed)))) == changed


def test_override_changes_nothing_else() -> None:
    changed = override(MODEL, "stack.blocks.1.parts.0.window", "16")
    assert diff(MODEL, changed) == [("stack.blocks.1.parts.0.window", 8, 16)]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("stack.dept", "8", r"stack\.dept: Stack has no field 'dept'; did you mean 'depth'\?"),
        ("stak.depth", "8", r"Model has no field 'stak'; did you mean 'stack'\?"),
        ("stack.depth", "many", r"stack\.depth=many: expected int"),
        ("stack.depth", "8.5", r"stack\.depth=8\.5: expected int"),
        ("stack.depth", "none", r"stack\.depth=none: expected int"),
        ("stack.share", "perhaps", r"expected bool"),
        ("stack.final", "LayrNorm", r"did you mean 'LayerNorm'\?"),
        ("stack.final", "MLP", r"stack\.final=MLP: expected Norm or NoneType"),
        ("init.kind", "gaussian", r"init\.kind=gaussian"),
        ("stack.blocks.2.dropout", "0", r"'2' is not an index; there are 2 entries, 0 to 1, or \*"),
        ("stack.blocks.first.dropout", "0", r"'first' is not an index"),
        ("stack.blocks.0", "Block", r"name a field of entry 0"),
        ("dim.width", "3", r"'width' lies below a plain value \(128\)"),
        ("stack.depth", "0", r"depth 1"),
        ("stack.blocks.0.parts.0.kv_heads", "3", r"kv_heads must divide heads"),
    ],
)
def test_override_says_what_is_wrong(path: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(MODEL, path, text)


def test_assignments() -> None:
    changed = apply_overrides(MODEL, ["dim=64", " stack.depth = 3 "])
    assert (changed.dim, changed.stack.depth) == (64, 3)
    for wrong in ("dim", "=3", "dim:3"):
        with pytest.raises(ValueError, match="write path=value"):
            apply_overrides(MODEL, [wrong])


def test_a_recipe_is_overridden_by_the_same_paths() -> None:
    recipe = apply_overrides(
        recipes.make("llama", dim=64, heads=4),
        [
            "model.stack.depth=2",
            "training.batch=4",
            "training.optimizer=Muon",
            "training.schedule.warmup=0.1",
            "model.stack.blocks.0.parts.0.position.scaling=RotaryScaling",
        ],
    )
    assert recipe.training.optimizer.momentum == 0.95
    assert recipe.training.schedule.warmup == 0.1
    assert recipe.model.stack.blocks[0].parts[0].position.scaling == RotaryScaling()
    with pytest.raises(ValueError, match=r"AdamW.*Muon.*SGD|SGD.*AdamW"):
        override(recipe, "training.optimizer", "Lion9000")


def test_unknown_part_and_field() -> None:
    with pytest.raises(ValueError, match=r"no part called 'Atention'; did you mean 'Attention'\?"):
        from_json({"part": "Atention"})
    with pytest.raises(ValueError, match=r"Attention has no field 'head'; did you mean 'heads'\?"):
        from_json({"part": "Attention", "head": 3})
    with pytest.raises(ValueError, match="no part called ''"):
        from_json({"heads": 3})
    with pytest.raises(ValueError, match=r"MLP has no field 'hiden'; did you mean 'hidden'\?"):
        MLP().replace(hiden=3)
    assert part("MLP") is MLP
    with pytest.raises(TypeError, match="not set"):
        to_json(MLP(act={1}))  # type: ignore[arg-type]


def test_two_parts_of_one_name() -> None:
    with pytest.raises(TypeError, match="two parts are called MLP"):
        type("MLP", (Spec,), {"__module__": "elsewhere"})
    assert REGISTRY["MLP"] is MLP


def test_flatten_and_diff() -> None:
    leaves = dict(flatten(MODEL))
    assert leaves["dim"] == 128 and leaves["stack"] == "Stack"
    assert leaves["stack.blocks.1.parts.0"] == "Attention" and leaves["stack.blocks.1.parts.0.window"] == 8
    assert diff(MODEL, MODEL) == []
    other = MODEL.replace(head=Head(softcap=30.0), encoder=Stack(depth=2))
    changes = {path: (a, b) for path, a, b in diff(MODEL, other)}
    assert changes["head.softcap"] == (None, 30.0)
    assert changes["encoder"] == (None, "Stack") and changes["encoder.depth"] == (..., 2)


def test_the_tree_of_recipes_is_a_list_of_differences() -> None:
    """What the design promises: a descendant's diff is its history."""
    sizes = {"dim": 64, "depth": 2, "heads": 4, "vocab": 100, "context": 32}
    before, after = (recipes.make(n, **sizes).model for n in ("llama", "olmo2"))
    assert {p for p, *_ in diff(before, after)} == {
        "stack.blocks.0.parts.0.position.theta",
        "stack.blocks.0.parts.0.score.norm",
        "stack.blocks.0.parts.0.score.norm.eps",
        "stack.blocks.0.parts.0.score.norm.plus_one",
        "stack.blocks.0.parts.0.score.whole",
        "stack.blocks.0.wiring",
    }


def test_walk_and_rewrite() -> None:
    assert sum(isinstance(p, Attention) for p in walk(MODEL)) == 2
    seen = []

    def change(p: Spec) -> Spec:
        seen.append(type(p).__name__)
        return p.replace(heads=2) if isinstance(p, Attention) else p

    wide = rewrite(MODEL, change)
    assert [p.heads for p in walk(wide) if isinstance(p, Attention)] == [2, 2]
    assert seen.index("Score") < seen.index("Attention") < seen.index("Model")  # leaves first
    assert rewrite(wide, lambda p: p.replace(heads=4) if isinstance(p, Attention) else p) == MODEL
    assert rewrite(MODEL, lambda p: LayerNorm(p.eps) if isinstance(p, RMSNorm) else p).stack.final == LayerNorm(1e-6)


_norms = st.one_of(
    st.none(), st.builds(LayerNorm, st.floats(1e-12, 1), st.booleans()), st.builds(RMSNorm, st.floats(0, 1), st.booleans())
)
_optional_float = st.none() | st.floats(allow_nan=False, allow_infinity=False)
_attentions = st.builds(
    Attention,
    heads=st.sampled_from([4, 8]),
    kv_heads=st.sampled_from([None, 1, 2, 4]),
    window=st.none() | st.integers(1, 2**40),
    position=st.one_of(st.none(), st.builds(Alibi), st.builds(Rotary, scaling=st.none() | st.builds(RotaryScaling))),
    score=st.builds(Score, scale=_optional_float, softcap=_optional_float, norm=_norms),
    dropout=st.floats(0, 0.9),
)
_mlps = st.builds(MLP, hidden=st.integers(1, 10**9) | st.floats(0.5, 8), act=st.text())
_blocks = st.builds(Block, st.lists(_attentions | _mlps, min_size=1, max_size=3).map(tuple), norm=_norms)
_models = st.builds(
    Model,
    embed=st.builds(Embedding, vocab=st.integers(1, 10**6), norm=_norms),
    stack=st.builds(Stack, st.lists(_blocks, min_size=1, max_size=2).map(tuple), st.integers(1, 99), final=_norms),
)


@settings(max_examples=60, deadline=None)
@given(_models, _models)
def test_round_trip_of_anything(a: Model, b: Model) -> None:
    again = from_json(json.loads(json.dumps(to_json(a))))
    assert again == a and hash(again) == hash(a) and again.parameters() == a.parameters()
    assert list(flatten(again)) == list(flatten(a))
    assert (diff(a, b) == []) == (a == b)


@settings(max_examples=60, deadline=None)
@given(_models)
def test_every_number_can_be_set_by_its_path(model: Model) -> None:
    """Setting a field to what it already holds gives an equal tree."""
    for path, value in flatten(model):
        if isinstance(value, bool | int | float) or value is None:
            assert override(model, path, repr(value)) == model


def test_norm_is_an_abstract_choice() -> None:
    assert issubclass(RMSNorm, Norm) and not hasattr(Norm, "Module")
