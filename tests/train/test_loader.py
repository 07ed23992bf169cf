"""Batches are pure functions of their index, and documents stay documents."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from genus.objectives.causal import Causal
from genus.train.loader import First, Streams, Windows, permute

from .conftest import Tokens

BOS = 500


@given(size=st.integers(1, 300), key=st.integers(0, 2**40))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    assert sorted(permute(i, size, key) for i in range(size)) == list(range(size))


def test_permutations_of_two_passes_differ() -> None:
    assert [permute(i, 50, 1) for i in range(50)] != [permute(i, 50, 2) for i in range(50)]


def test_windows_visit_every_window_once_in_a_pass(documents: Tokens) -> None:
    data = Windows(documents, context=5, batch=2, bos=BOS, seed=3)
    seen = [tuple(row.tolist()) for step in range(9) for row in data(step).tokens]
    assert len(set(seen)) == 18 == data.rows - 1  # 96 usable tokens of 100, two of 19 windows left for the next batch
    assert all(b - a == 1 for row in seen for a, b in pairwise(row))


def test_windows_of_one_step_do_not_depend_on_the_steps_before(documents: Tokens) -> None:
    late = Windows(documents, 5, 2, BOS, seed=3)(41)
    data = Windows(documents, 5, 2, BOS, seed=3)
    for step in range(41):
        data(step)
    assert torch.equal(data(41).tokens, late.tokens)


def test_the_second_pass_has_another_order_and_offset(documents: Tokens) -> None:
    data = Windows(documents, 5, 1, BOS, seed=0)
    first = [int(data(i).tokens[0, 0]) for i in range(data.rows)]
    second = [int(data(i + data.rows).tokens[0, 0]) for i in range(data.rows)]
    assert first != second
    assert len({t % 5 for t in first}) == len({t % 5 for t in second}) == 1


def test_documents_of_a_row(documents: Tokens) -> None:
    rows = Windows(documents, 10, 1, BOS, shuffle=False)(0)
    assert rows.doc.tolist() == [[0] * 7 + [1] + [2] * 2]
    assert rows.begins.tolist() == [True]
    batch = Causal().batch(rows)
    assert batch.inputs.tolist() == [[BOS, 0, 1, 2, 3, 4, 5, BOS, BOS, 8]]
    assert batch.targets.tolist() == [list(range(10))]


def test_a_row_inside_one_document_needs_no_document_ids(documents: Tokens) -> None:
    batch = Causal().batch(Windows(documents, 10, 1, BOS, shuffle=False)(5))
    assert batch.doc is None
    assert batch.inputs.tolist() == [list(range(49, 59))]


def test_a_row_that_begins_a_document_begins_with_bos(documents: Tokens) -> None:
    batch = Causal().batch(Windows(documents, 8, 1, BOS, shuffle=False)(1))
    assert batch.inputs.tolist() == [[BOS, 8, 9, 10, 11, 12, 13, 14]]


def test_data_shorter_than_a_row_is_padded() -> None:
    batch = Causal().batch(Windows(Tokens([1, 2, 3], [3]), 6, 1, BOS)(0))
    assert batch.targets.tolist() == [[1, 2, 3, -100, -100, -100]]
    assert batch.doc is not None and batch.doc.tolist() == [[0, 0, 0, -1, -1, -1]]


def test_streams_continue_row_by_row(documents: Tokens) -> None:
    data = Streams(documents, context=10, batch=2, bos=BOS)
    assert data.steps_per_epoch == 5
    first, second = data(0).tokens, data(1).tokens
    assert second[:, 0].tolist() == (first[:, -1] + 1).tolist() == [10, 60]
    assert [data.restarts(i) for i in (0, 1, 5)] == [True, False, True]
    assert torch.equal(data(5).tokens, first)


def test_streams_begin_afresh_now_and_then() -> None:
    """As a document would: BOS, and a document number that the batch before did not have; the tokens stay what they were."""
    one = Tokens(list(range(4000)), [4000])
    data = Streams(one, context=10, batch=4, bos=BOS + 3500, restart=0.25, seed=1)
    begun = 0
    for step in range(1, data.steps_per_epoch):
        before, rows = data(step - 1), data(step)
        afresh = rows.doc[:, 0] != before.doc[:, -1]
        begun += int(afresh.sum())
        assert torch.equal(afresh, rows.begins)
        assert torch.equal(Causal().batch(rows, stream=True).inputs[:, 0] == BOS + 3500, afresh)
        assert torch.equal(rows.tokens, Streams(one, 10, 4, BOS)(step).tokens)
    assert 0.15 < begun / (4 * data.steps_per_epoch) < 0.35
    assert data(0).begins.all()


def test_streams_as_published_never_begin_afresh() -> None:
    one = Tokens(list(range(4000)), [4000])
    data = Streams(one, context=10, batch=4, bos=BOS)
    assert not any(bool(data(step).begins[1:].any()) for step in range(data.steps_per_epoch))


def test_the_first_tokens_of_a_split(documents: Tokens) -> None:
    """Documents end at 7, 8, 40 and 100: the cut falls inside one, on a border, or beyond the end."""
    assert [First(documents, n).ends.tolist() for n in (20, 8, 500)] == [[7, 8, 20], [7, 8], [7, 8, 40, 100]]
    assert First(documents, 500).tokens == 100


def test_windows_and_streams_are_validated_on_the_same_tokens(documents: Tokens) -> None:
    held = First(documents, 60)
    windows, streams = Windows(held, 10, 3, BOS, shuffle=False), Streams(held, 10, 3, BOS)
    seen = [sorted(t for step in range(2) for t in rows(step).tokens.flatten().tolist()) for rows in (windows, streams)]
    assert seen[0] == seen[1] == list(range(60))


def test_a_row_without_state_begins_as_a_document_does(documents: Tokens) -> None:
    """Rows are cut in the middle of documents, which a model that was trained on beginnings does not know without a state."""
    data = Streams(documents, context=10, batch=2, bos=BOS, afresh=True)
    first, second, again = (Causal().batch(data(step), stream=True).inputs for step in (0, 1, 5))
    assert first[:, 0].tolist() == again[:, 0].tolist() == [BOS, BOS]
    assert second[:, 0].tolist() == [9, 59]
