"""What `genus explain` shows are the factors by which a model mixed its values, for every recipe that has any."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genus.evaluate.explain import KINDS, watch
from genus.ops.dispatch import Call, watched
from genus.parts.attention import Attention
from genus.parts.conditional import Conditional
from genus.parts.fast_weights import FastWeights
from genus.parts.source_context import Additive

CLOSE = {"atol": 2e-4, "rtol": 1e-3}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.exempt("counting", reason="mixes nothing")
@pytest.mark.parametrize("packed", [False, True])
def test_weights_times_values_are_the_output(case, packed: bool) -> None:
    ids = case.text(2, 24)
    doc = (torch.arange(24) // 9).expand(2, -1) if packed else None
    calls: list[Call] = []
    with watched(calls.append):
        case(ids, doc)
    for call in calls:
        if call.op.name in KINDS:
            v: Tensor = call.arguments["v"]
            weights = call.weights()
            result = call.result[0] if isinstance(call.result, tuple) else call.result
            if v.dim() == 3:  # additive attention: one query
                mixed = (weights[:, None] @ v)[:, 0]
            else:
                mixed = weights @ v.repeat_interleave(weights.shape[1] // v.shape[1], dim=1)
            torch.testing.assert_close(mixed, result, **CLOSE)


def mixers(case) -> list[tuple[str, int, object]]:
    """Place, layer and part of everything that has weights, in the order of the stacks."""
    found = []
    for side, stack in (("source", case.spec.encoder), ("text", case.spec.stack)):
        for number, (block, _) in enumerate(stack.layers(case.spec.dim) if stack else ()):
            for part in block.parts:
                told = isinstance(part, Conditional) and isinstance(part.context, Additive)
                if told or isinstance(part, Attention | FastWeights):
                    found.append(("cross" if told or getattr(part, "cross", False) else side, number, part))
    return found


@pytest.mark.exempt("counting", reason="has no layers")
def test_every_mixer_is_shown(case) -> None:
    layers = watch(case.model, lambda: case(case.text(1, 24)))
    expected = mixers(case)
    assert [(layer.place, layer.number) for layer in layers] == [(place, number) for place, number, _ in expected]
    for layer, (place, _, part) in zip(layers, expected, strict=True):
        assert layer.weights.shape == (getattr(part, "heads", 1), 24, 24)
        sums = layer.weights.sum(-1)
        if layer.kind != "fast weights":
            assert (layer.weights >= 0).all()
            torch.testing.assert_close(sums, torch.ones_like(sums), **CLOSE)
            assert layer.write is None
        else:
            assert isinstance(part, FastWeights) and layer.write is not None
            assert (layer.write >= 0).all() and layer.write.max() > 0
            assert (layer.beta is None) == (part.rule.build(8, 1) is None)
            assert (layer.decay is None) == (part.decay is None)
            if part.normalise:
                torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-2, rtol=0)
        if place == "text" and case.kind != "encoder":
            assert torch.equal(layer.weights, layer.weights.tril())
        if getattr(part, "window", None):
            assert torch.equal(layer.weights, layer.weights.triu(1 - part.window))
