"""Recurrent mixers: documents and padding, and the details of Zaremba et al. 2014."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genus import recipes
from genus.parts.ctx import Ctx, document_positions
from genus.parts.recurrent import Recurrent
from genus.recipes.training import SGD, EpochDecay


def _layer(cell: str, hidden: int | None = 5) -> Recurrent.Module:
    layer = Recurrent(cell, hidden).build(3)
    for p in layer.parameters():
        nn.init.normal_(p, 0.0, 0.7)
    assert Recurrent(cell, hidden).parameters(3) == sum(p.numel() for p in layer.parameters())
    return layer


def _ctx(doc: Tensor) -> Ctx:
    return Ctx(document_positions(doc), doc, key_doc=doc)


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_documents_side_by_side_or_one_after_the_other(cell: str) -> None:
    """The batched way without a state and the sequential way with one agree, padding anywhere."""
    layer, x = _layer(cell), torch.randn(3, 10, 3)
    doc = torch.tensor([[0, 0, 1, 1, 1, 2, 3, 3, 3, 3], [-1, -1, 5, 5, -1, -1, 5, 6, 6, -1], [7] * 10])
    state = layer.init_state(3, 10, torch.float32, torch.device("cpu"))
    with_state, without = layer(x, _ctx(doc), state), layer(x, _ctx(doc))
    real = doc != -1
    torch.testing.assert_close(with_state[real], without[real])
    assert without[~real].eq(0).all() and without.isfinite().all()
    torch.testing.assert_close(state["hidden"][0], without[0, -1])
    torch.testing.assert_close(state["hidden"][1], without[1, 8])  # padding has not touched it


def test_only_padding() -> None:
    y = _layer("GRU")(torch.randn(2, 4, 3), _ctx(torch.full((2, 4), -1)))
    assert y.eq(0).all()


def test_width_and_work() -> None:
    assert Recurrent("LSTM", 7).width(3) == 7 and Recurrent("GRU").width(3) == 3
    assert Recurrent("LSTM", 7).flops(3, 99) == 2 * 4 * 7 * (3 + 7)


def test_zaremba_small_is_the_published_model() -> None:
    """Section 4.1: two layers of 200, vocabulary 10,000; 4.65 million parameters, uniform in [-0.1, 0.1]."""
    recipe = recipes.make("zaremba")
    own = 2 * 10_000 * 200 + 10_000 + 2 * 4 * 200 * (200 + 200 + 2)
    assert recipe.model.parameters() == own == 4_653_200
    torch.manual_seed(0)
    model = recipes.make("zaremba", vocab=300).model.build()
    assert all(0.08 < float(p.detach().abs().max()) <= 0.1 for p in model.parameters())
    assert model.head.weight is not model.embed.tokens.weight


@pytest.mark.parametrize(
    ("size", "dim", "dropout", "bound", "clip", "keep", "factor"),
    [
        ("small", 200, 0.0, 0.1, 5.0, 4, 0.5),
        ("medium", 650, 0.5, 0.05, 5.0, 6, 1 / 1.2),
        ("large", 1500, 0.65, 0.04, 10.0, 14, 1 / 1.15),
    ],
)
def test_zaremba_training(size: str, dim: int, dropout: float, bound: float, clip: float, keep: int, factor: float) -> None:
    recipe = recipes.make("zaremba", size=size)
    assert recipe.model.dim == dim and recipes.make("zaremba", dim=64, size=size).model.dim == 64
    training = recipe.training
    assert training.optimizer == SGD(lr=1.0) and training.schedule == EpochDecay(keep=keep, factor=factor)
    assert (training.batch, training.context, training.clip) == (20, 20 if size == "small" else 35, clip)
    assert training.stream and training.sum_over_time
    assert recipe.model.init.std == bound and recipe.model.init.everything
    assert recipe.model.embed.dropout == dropout and recipe.model.stack.blocks[0].dropout == dropout


def test_zaremba_dropout_is_not_on_the_recurrence() -> None:
    """With dropout 1 - epsilon on every non-recurrent connection the state would still be carried: the op never sees dropout."""
    block = recipes.make("zaremba", size="large").model.stack.blocks[0]
    assert not hasattr(block.parts[0], "dropout") and block.dropout == 0.65


def test_zaremba_has_three_sizes() -> None:
    with pytest.raises(ValueError, match="zaremba has no size 'larg'; did you mean 'large'"):
        recipes.make("zaremba", size="larg")


def test_lstm_is_pytorchs_lstm() -> None:
    recipe = recipes.make("lstm", dim=6, depth=2, vocab=11)
    torch.manual_seed(1)
    model = recipe.model.build()
    peer = nn.LSTM(6, 6, 2, batch_first=True)
    with torch.no_grad():
        for i, layer in enumerate(model.stack.layers):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(peer, f"{name}_l{i}").copy_(getattr(layer.parts[0], name))
    ids = torch.randint(0, 11, (2, 9))
    torch.testing.assert_close(model.hidden(ids), peer(model.embed.tokens(ids))[0])
