"""Blocks, and the pattern of blocks that makes a stack."""

from __future__ import annotations

import pytest
import torch

from genus.parts.attention import Attention
from genus.parts.block import Block, Stack
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.norm import RMSNorm
from genus.parts.positions import Rotary
from genus.parts.recurrent import Recurrent
from genus.parts.wiring import Plain

LOCAL = Block((Attention(2, window=3, position=Rotary()), MLP(16)))
GLOBAL = Block((Attention(2, position=Rotary()), MLP(24)))


def test_pattern_is_tiled_over_the_depth() -> None:
    stack = Stack((LOCAL, LOCAL, GLOBAL), 5).build(8)
    windows = [layer.parts[0].spec.window for layer in stack.layers]
    assert windows == [3, 3, None, 3, 3]
    assert Stack((LOCAL, LOCAL, GLOBAL), 5).parameters(8) == sum(p.numel() for p in stack.parameters())


def test_shared_layers_are_one_module_but_have_their_own_state() -> None:
    """ALBERT: depth costs work, not parameters."""
    spec = Stack((LOCAL, GLOBAL), 6, share=True)
    stack = spec.build(8)
    assert len(stack.layers) == 2
    assert spec.parameters(8) == sum(p.numel() for p in stack.parameters()) == Stack((LOCAL, GLOBAL), 2).parameters(8)
    assert spec.flops(8, 10) == 3 * Stack((LOCAL, GLOBAL), 2).flops(8, 10)
    model = Model(8, stack=spec).build().eval()
    ids = torch.randint(0, 256, (1, 7))
    state = model.init_state(1, 7)
    assert len(state["layers"]) == 6 and len({s[0]["keys"].data_ptr() for s in state["layers"]}) == 6
    with torch.no_grad():
        steps = torch.cat([model(ids[:, t : t + 1], state=state) for t in range(7)], dim=1)
        torch.testing.assert_close(steps, model(ids), atol=1e-5, rtol=1e-4)


def test_widths_may_change_from_layer_to_layer() -> None:
    block = Block((Recurrent("GRU", 12),), None, Plain())
    spec = Stack((block,), 3, RMSNorm())
    assert spec.width(8) == 12 and [w for _, w in spec.layers(8)] == [8, 12, 12]
    assert spec.parameters(8) == sum(p.numel() for p in spec.build(8).parameters())


def test_dropout_falls_on_every_sublayer_in_training_only() -> None:
    model = Model(8, stack=Stack((GLOBAL.replace(dropout=0.5),), 2)).build()
    ids = torch.randint(0, 256, (1, 7))
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_an_empty_stack() -> None:
    with pytest.raises(ValueError, match="at least one block and depth 1, not 1 and 0"):
        Stack(depth=0)
    with pytest.raises(ValueError, match="not 0 and 4"):
        Stack(())
