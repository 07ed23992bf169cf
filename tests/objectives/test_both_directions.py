"""Forward and backward language models at once."""

import numpy as np
import torch

from genus import recipes
from genus.objectives.both_directions import BothDirections
from genus.objectives.causal import Causal
from genus.ops.cross_entropy import IGNORE
from genus.train.loader import Streams, Windows

BOS = 0


class Text:
    """Three documents: 1 2 3 EOS, 4 EOS, 5 6 7 8 EOS."""

    tokens = 11
    ends = np.array([4, 6, 11])

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.array([1, 2, 3, 0, 4, 0, 5, 6, 7, 8, 0])[start:stop]


def elmo() -> torch.nn.Module:
    torch.manual_seed(0)
    return recipes.make("elmo", dim=16, depth=2, vocab=9, hidden=24).model.build().eval()


def test_batch() -> None:
    batch = BothDirections().batch(Windows(Text(), 11, 1, BOS, shuffle=False)(0))
    assert batch.inputs.tolist() == [[0, 1, 2, 3, 0, 4, 0, 5, 6, 7, 8]]
    assert batch.targets[0, :, 0].tolist() == [1, 2, 3, 0, 4, 0, 5, 6, 7, 8, 0]
    assert batch.targets[0, :, 1].tolist() == batch.inputs[0].tolist(), "what forward reads, backward predicts"
    assert batch.count == 22
    padded = BothDirections().batch(Windows(Text(), 8, 2, BOS, shuffle=False)(0))
    assert padded.count == int((padded.targets != IGNORE).sum())


@torch.no_grad()
def test_loss_is_that_of_two_models() -> None:
    """Forward it is the causal loss; backward that of every document read alone from its end."""
    model = elmo()
    batch = BothDirections().batch(Windows(Text(), 11, 1, BOS, shuffle=False)(0))
    total, count = BothDirections().loss(model, batch)
    causal = Causal().batch(Windows(Text(), 11, 1, BOS, shuffle=False)(0))
    expected = Causal().loss(model, causal)[0]
    for document in ([1, 2, 3, 0], [4, 0], [5, 6, 7, 8, 0]):
        read = torch.tensor([document])
        told = torch.tensor([[BOS, *document[:-1]]])
        expected = expected + model.head.loss(model.hidden_reverse(read), told)[0]
    torch.testing.assert_close(total, expected)
    assert int(count) == batch.count == 22
    torch.testing.assert_close(
        model.score(batch.inputs, batch.targets[..., 0], batch.doc).sum(), -Causal().loss(model, causal)[0]
    )


@torch.no_grad()
def test_nothing_leaks_between_documents_or_from_padding() -> None:
    model = elmo()

    class Other(Text):
        def read(self, start: int, stop: int) -> np.ndarray:
            return np.array([1, 2, 3, 0, 8, 0, 5, 6, 7, 8, 0])[start:stop]

    losses = []
    for text in (Text(), Other()):
        batch = BothDirections().batch(Windows(text, 16, 1, BOS, shuffle=False)(0))
        hidden = [model.hidden_reverse(batch.targets[..., 0].clamp(min=0), batch.doc), model.hidden(batch.inputs, batch.doc)]
        scores = [model.head.score(h, batch.targets[..., i]) for h, i in zip(hidden, (1, 0), strict=True)]
        losses.append(torch.stack(scores))
    own = batch.doc[0] == 1
    assert torch.equal(losses[0][..., ~own], losses[1][..., ~own]) and not torch.equal(losses[0][..., own], losses[1][..., own])


def test_a_row_that_begins_afresh_has_nothing_before_it_to_find() -> None:
    streams = Streams(Text(), 3, 2, BOS, afresh=True)
    batch = BothDirections().batch(streams(0), stream=True)
    assert batch.targets[:, 0, 1].tolist() == [BOS, IGNORE], "the second row begins with EOS of document 2, in its middle"


def test_every_parameter_learns() -> None:
    model = elmo()
    total, count = BothDirections().loss(model, BothDirections().batch(Windows(Text(), 11, 1, BOS, shuffle=False)(0)))
    (total / count).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_work() -> None:
    spec = recipes.make("elmo", dim=16, depth=2, vocab=9).model
    assert BothDirections().flops(spec, 8) == 2 * spec.flops(0, 8)
