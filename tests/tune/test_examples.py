"""Examples are kept small and come back as they were; batches are pure functions of their number."""

from __future__ import annotations

import sys

import pytest

from genus.tune.examples import Batches, Examples, by_length
from genus.tune.task import Example
from genus.tune.tasks.classification import Classification
from genus.tune.tasks.tagging import Tagging

from .conftest import reviews

TASK = Classification(labels=("neg", "pos"))


def test_they_come_back_as_they_were(bert) -> None:
    rows = [{**row, "other": "a story"} for row in reviews(40)]
    for task in (TASK, TASK.replace(pair="other")):
        found = Examples.encode(task, rows, bert.tokenizer, 8)
        plain = task.examples(rows, bert.tokenizer, 8)
        assert list(found) == plain and found.lengths.tolist() == [len(e.ids) for e in plain]
        assert found.cut == sum(e.cut for e in plain) > 0 and found.rows == rows
    assert any(e.types for e in found) and not any(e.types for e in Examples.encode(task, rows, bert.tokenizer, 8, types=1))


def test_some_of_the_rows_count_anew(bert) -> None:
    rows = [{"words": ["good"] * n, "tags": ["O", "B-X"] * (n // 2) + ["O"] * (n % 2)} for n in (3, 20, 5, 30)]
    found = Examples.encode(Tagging(labels=("O", "B-X")), rows, bert.tokenizer, 10)
    some = found.of([3, 0])
    assert [e.row for e in some] == [0, 0, 0, 0, 1] and some.rows == [rows[3], rows[0]]
    assert some.of([1]).rows == [rows[0]] and len(some.of([])) == 0
    assert [label for e in some.of([1]) for label in e.label if label != -100] == [0, 1, 0]


def test_a_million_rows_take_little_room(bert) -> None:
    rows = reviews(3000)
    found = Examples.encode(TASK, rows, bert.tokenizer, 64)
    flat = sum(sys.getsizeof(v) for v in vars(found.store).values() if hasattr(v, "itemsize"))
    assert flat / len(rows) < 200  # bytes


def test_batches() -> None:
    examples = [Example([0] * (1 + i * 7 % 40), [], 0, row=i) for i in range(256)]
    batches = Batches(examples, 4, seed=3)
    seen = [e.row for step in range(64) for e in batches(step)]
    assert sorted(seen) == list(range(256)) and seen != sorted(seen)
    again = [e.row for step in range(64, 128) for e in batches(step)]
    assert sorted(again) == list(range(256)) and again != seen
    assert [e.row for e in Batches(examples, 4, seed=3)(70)] == [e.row for e in batches(70)]
    padding = sum(4 * max(len(e.ids) for e in batches(s)) for s in range(64)) / sum(len(e.ids) for e in examples)
    assert padding < 1.25  # neighbours in length share a batch
    few = Batches(examples[:6], 4)
    assert few.together == 1 and [len(few(step)) for step in range(3)] == [4, 4, 4]


def test_reading_in_order_of_length() -> None:
    examples = [Example([0] * n, [], 0) for n in (5, 30, 7, 2, 90)]
    groups = list(by_length(examples, 64))
    assert sorted(i for group in groups for i in group) == [0, 1, 2, 3, 4]
    assert all(len(g) == 1 or len(g) * max(len(examples[i].ids) for i in g) <= 64 for g in groups)
    assert groups[0] == [4]  # the longest first, so that memory is seen to suffice at once


@pytest.mark.parametrize("limit", [4, 64])
def test_pairs_have_types(bert, limit: int) -> None:
    (example,) = TASK.replace(pair="b").examples([{"text": "a good film", "b": "so bad", "label": "x"}], bert.tokenizer, limit)
    assert set(example.types) == {0, 1} and example.label == -100 and example.cut == (limit == 4)
