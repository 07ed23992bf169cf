"""The model as a whole: what it accepts, what it says when it does not."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genus import recipes
from genus.ops.dispatch import OPS, forced
from genus.parts.block import Stack
from genus.parts.embedding import Embedding
from genus.parts.model import Model, forget_history
from genus.parts.norm import LayerNorm
from genus.parts.positions import LearnedPositions

IDS = torch.randint(0, 40, (2, 6), generator=torch.Generator().manual_seed(0))


def _translator() -> Model.Module:
    return recipes.make("t5", dim=16, depth=1, heads=2, vocab=40).model.build().eval()


def test_encoder_decoder_needs_a_source_once() -> None:
    model = _translator()
    with pytest.raises(ValueError, match="give the encoder's text as `source`"):
        model(IDS)
    state = model.init_state(2, 12)
    with pytest.raises(ValueError, match="give the encoder's text as `source`"):
        model(IDS, state=state)
    model(IDS, state=state, source=IDS)
    assert model(IDS, state=state).shape == (2, 6, 40)
    with pytest.raises(ValueError, match="this model has no encoder"):
        Model(stack=Stack(depth=1)).build().encode(IDS)


@torch.no_grad()
def test_padding_of_the_source_is_kept_with_the_state() -> None:
    model = _translator()
    source = torch.randint(0, 40, (2, 8))
    source_doc = torch.tensor([[0] * 5 + [-1] * 3, [0] * 8])
    state = model.init_state(2, 6)
    model(IDS[:, :3], state=state, source=source, source_doc=source_doc)
    steps = model(IDS[:, 3:], state=state)
    alone = model(IDS[:1], source=source[:1, :5])[:, 3:]
    torch.testing.assert_close(steps[:1], alone, atol=1e-5, rtol=1e-4)


def test_too_long_for_learned_positions() -> None:
    model = recipes.make("gpt2", dim=16, depth=1, heads=2, vocab=40, context=5).model
    assert model.context == 5 and recipes.make("llama", dim=16, heads=2).model.context is None
    built = model.build().eval()
    with pytest.raises(ValueError, match="position 5 lies beyond the 5 learned positions"):
        built(IDS)
    with pytest.raises(ValueError, match="position 5 lies beyond the 5 learned positions"):
        built(IDS, doc=torch.tensor([[0, 0, 0, 0, 1, 1], [0] * 6]))
    two = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 1, 1, 1, 1, 1]])  # every document begins at position 0
    assert built(IDS, doc=two).shape == (2, 6, 40)
    state = built.init_state(2, 8)
    built(IDS[:, :4], state=state)
    built(IDS[:, 4:5], state=state)
    with pytest.raises(ValueError, match="position 5 lies beyond the 5 learned positions"):
        built(IDS[:, 5:], state=state)
    state["start"] = torch.tensor([3, 5])
    with pytest.raises(ValueError, match="position 5 lies beyond the 5 learned positions"):
        built.decode(IDS[:, :1], state, torch.float32)


def test_factorised_embedding_is_counted() -> None:
    """ALBERT's narrow table and its projection, in parameters and in work."""
    spec = Model(16, Embedding(40, LearnedPositions(9), types=2, norm=LayerNorm(), dim=4), Stack(depth=1))
    spec = spec.replace(head=spec.head.replace(tied=False))
    model = spec.build()
    assert spec.parameters() == sum(p.numel() for p in model.parameters())
    assert model.embed.tokens.weight.shape == (40, 4)
    with forced(**dict.fromkeys(OPS, "reference")), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, dtype=torch.long))
    assert counter.get_total_flops() == spec.flops(length=1)


def test_embedding_is_a_sum() -> None:
    spec = Embedding(40, LearnedPositions(9), types=2, norm=LayerNorm(), scale=3.0)
    table = spec.build(8)
    torch.nn.init.normal_(table.positions.weight)
    types = torch.tensor([[0, 1, 1]])
    ids, positions = IDS[:1, :3], torch.tensor([2, 0, 1])
    want = table.tokens.weight[ids] * 3 + table.positions.weight[positions] + table.types.weight[types]
    torch.testing.assert_close(table(ids, positions, types, torch.float32), table.norm(want))
    zeros = table(ids, positions, torch.zeros_like(types), torch.float32)
    torch.testing.assert_close(table(ids, positions, None, torch.float32), zeros)


def test_forget_history_cuts_gradients_and_keeps_the_state() -> None:
    model = recipes.make("gru", dim=8, depth=1, vocab=40).model.build()
    state = model.init_state(2, 6)
    model(IDS, state=state)
    assert state["layers"][0][0]["hidden"].requires_grad
    after = forget_history(state)
    assert not after["layers"][0][0]["hidden"].requires_grad and after["start"] == 0
    assert torch.equal(after["layers"][0][0]["hidden"], state["layers"][0][0]["hidden"])


@torch.no_grad()
def test_documents_may_be_named_late() -> None:
    """What came before without ids was document 0; without ids, the text goes on in the last document."""
    model = recipes.make("llama", dim=16, depth=1, heads=2, vocab=40).model.build()
    state = model.init_state(2, 12)
    model(IDS, state=state)
    later = model(IDS, torch.tensor([[0] * 6, [1] * 6]), state=state)
    torch.testing.assert_close(later[:1], model(torch.cat([IDS, IDS], dim=1))[:1, 6:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(later[1:], model(IDS)[1:], atol=1e-5, rtol=1e-4)
    state = model.init_state(2, 12)
    model(IDS, torch.tensor([[3, 3, 3, 3, 3, 3], [3, 3, 3, 4, 4, 4]]), state=state)
    torch.testing.assert_close(model(IDS, state=state)[1:], model(torch.cat([IDS[:, 3:], IDS], 1))[1:, 3:], atol=1e-5, rtol=1e-4)
