"""Next-token prediction: what is predicted from what."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genus import recipes
from genus.objectives.batch import Rows
from genus.objectives.causal import Causal

BOS = 99


def _rows(tokens: list[list[int]], doc: list[list[int]], previous: list[int], begins: list[bool]) -> Rows:
    return Rows(torch.tensor(tokens), torch.tensor(doc), torch.tensor(previous), torch.tensor(begins), BOS)


def test_inputs_are_the_stream_shifted_by_one() -> None:
    batch = Causal().batch(_rows([[1, 2, 3, 4]], [[7, 7, 7, 7]], [50], [False]))
    assert batch.inputs.tolist() == [[50, 1, 2, 3]] and batch.targets.tolist() == [[1, 2, 3, 4]]
    assert batch.doc is None  # one document without padding: the fused kernel is kept


def test_a_document_begins_with_bos() -> None:
    batch = Causal().batch(_rows([[1, 9, 5, 6], [1, 2, 9, 3]], [[0, 0, 1, 1], [2, 2, 2, 3]], [50, 60], [True, False]))
    assert batch.inputs.tolist() == [[BOS, 1, BOS, 5], [60, 1, 2, BOS]]
    assert batch.targets.tolist() == [[1, 9, 5, 6], [1, 2, 9, 3]]  # the end of the document (9) is predicted too
    assert batch.doc is not None and batch.doc.tolist() == [[0, 0, 1, 1], [2, 2, 2, 3]]


def test_padding_is_no_target() -> None:
    batch = Causal().batch(_rows([[1, 9, 0, 0]], [[4, 4, -1, -1]], [50], [False]))
    assert batch.targets.tolist() == [[1, 9, -100, -100]] and batch.doc is not None


def test_a_stream_keeps_its_documents() -> None:
    """A row of one document may still differ from the row before it, whose state it inherits."""
    rows = _rows([[1, 2]], [[7, 7]], [50], [True])
    assert Causal().batch(rows).doc is None
    assert Causal().batch(rows, stream=True).doc.tolist() == [[7, 7]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=9), min_size=1, max_size=6), st.integers(1, 8))
def test_every_target_is_predicted_from_its_own_past(documents: list[list[int]], time: int) -> None:
    """Cut a stream into rows anywhere: each input is the token before its target in the same document, or BOS."""
    stream = [(d, t) for d, tokens in enumerate(documents) for t in tokens]
    for start in range(0, len(stream) - time + 1, time):
        part = stream[start : start + time]
        before = stream[start - 1] if start else (-1, 77)
        rows = _rows([[t for _, t in part]], [[d for d, _ in part]], [before[1]], [before[0] != part[0][0]])
        batch = Causal().batch(rows)
        for i, (d, t) in enumerate(part):
            old = part[i - 1] if i else before
            assert batch.inputs[0, i] == (old[1] if old[0] == d else BOS)
            assert batch.targets[0, i] == t


def test_loss_is_a_sum_and_a_count() -> None:
    model = recipes.make("gru", dim=8, depth=1, vocab=100).model.build()
    batch = Causal().batch(_rows([[1, 9, 0, 0], [3, 4, 5, 6]], [[4, 4, -1, -1], [5, 5, 5, 5]], [50, 51], [True, False]))
    total, count = Causal().loss(model, batch)
    score = model.score(batch.inputs, batch.targets, batch.doc)
    torch.testing.assert_close(total, -score.sum())
    assert int(count) == 6


def test_loss_carries_a_state() -> None:
    model = recipes.make("gru", dim=8, depth=1, vocab=100).model.build()
    rows = _rows([[1, 2, 3, 4]], [[0, 0, 0, 0]], [50], [True])
    state, halves = model.init_state(1, 4), []
    for part, previous, begins in ((slice(0, 2), 50, True), (slice(2, 4), 2, False)):
        piece = Rows(rows.tokens[:, part], rows.doc[:, part], torch.tensor([previous]), torch.tensor([begins]), BOS)
        halves.append(Causal().loss(model, Causal().batch(piece, stream=True), state)[0])
    torch.testing.assert_close(sum(halves), Causal().loss(model, Causal().batch(rows))[0])
