"""Placeholders stand where things stood, and nothing that was masked is shown."""

import re
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.masking import Kind, Span, mask_column, masked, spans_in, veiled


def finder(pattern: str):
    def find(text: str) -> Iterator[tuple[int, int]]:
        return (found.span() for found in re.finditer(pattern, text))

    return find


LONG = Kind("long number", "<LONG>", "[0-9]{8}", finder("[0-9]{8,}"))
SHORT = Kind("short number", "<SHORT>", "[0-9]{4}", finder("[0-9]{4}"))


def one(text: str) -> pa.RecordBatch:
    return next(batches_of([Document(text)]))


def test_the_first_kind_has_what_two_find() -> None:
    outcome = mask_column(one("a 1234 b 123456789012 c"), "text", (LONG, SHORT))
    assert outcome.batch.column("text").to_pylist() == ["a <SHORT> b <LONG> c"]
    assert outcome.counts == {"<LONG>": 1, "<SHORT>": 1}
    assert [change.reason for change in outcome.changes] == ["short number masked", "long number masked"]


def test_untouched_batches_are_the_same() -> None:
    batch = one("nothing here")
    assert mask_column(batch, "text", (LONG, SHORT)).batch is batch


def test_what_was_masked_is_not_shown() -> None:
    text = "x" * 500 + " 12345678901234 " + "y" * 500 + " 98765432109876"
    (change,) = mask_column(one(text), "text", (LONG,)).changes
    assert change.before.startswith("…x") and "12…34" in change.before and "<LONG>" in change.after
    assert "345678" not in change.before + change.after and len(change.before) <= 201


def test_only_the_gate_opens() -> None:
    closed = Kind("number", "<N>", "never", finder("[0-9]+"))
    assert spans_in(one("12345").column("text"), (closed,)) == {}


@given(
    st.text("ab ", max_size=12),
    st.lists(st.tuples(st.sampled_from([LONG, SHORT]), st.text("ab ", min_size=1, max_size=9)), max_size=5),
)
def test_excerpts_follow_the_texts(begin: str, rest: list[tuple[Kind, str]]) -> None:
    text, expected, spans = begin, begin, []
    for kind, after in rest:
        spans.append(Span(len(text), len(text) + 9, kind))
        text += f"123456789{after}"
        expected += f"{kind.mask}{after}"
    assert masked(text, spans) == expected
    assert veiled(text, spans) == re.sub("[0-9]+", "12…89", text)


@pytest.mark.parametrize("column", ["text", "source_text"])
def test_both_sides_of_pairs(column: str) -> None:
    batch = next(batches_of([Document("a 1234", source="b 5678")], pairs=True))
    outcome = mask_column(batch, column, (SHORT,))
    assert outcome.batch.column(column).to_pylist()[0].endswith("<SHORT>")
    other = {"text": "source_text", "source_text": "text"}[column]
    assert outcome.batch.column(other).equals(batch.column(other))
