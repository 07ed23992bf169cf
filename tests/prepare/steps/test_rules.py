"""What every rule of quality must do with any text: never fail, never invent, and judge each document by itself."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.c4 import C4
from genus.prepare.steps.chinese import Chinese
from genus.prepare.steps.fineweb import FineWeb
from genus.prepare.steps.gopher import Gopher
from genus.prepare.steps.language import Language
from genus.prepare.steps.repetition import Repetition
from genus.prepare.steps.rules import decide, holds_words, share
from genus.prepare.steps.step import Step
from genus.prepare.steps.unicode import Unicode

# Loose settings too, so that the rules after the first get something to judge.
STEPS: list[Step] = [
    Unicode(),
    Language(keep=("en", "zh")),
    Gopher(),
    Gopher(minimum_words=0, minimum_word_length=0, alphabetic=0, stop_words=0),
    Repetition(),
    C4(),
    C4(sentences=0, words=1, characters=1, terminal=False),
    FineWeb(),
    Chinese(),
    Chinese(characters=0, line=0, han=0, frequent=0, script="simplified"),
]
RUN = {str(step): step.ready() for step in STEPS}
PIECES = [
    "The end. ",
    "of and to ",
    "#",
    "...",
    "… ",
    "• ",
    "\n",
    "\n\n",
    "中文，",
    "的。",
    "ไทย",
    "か",
    "{",
    "javascript ",
    "[1]",
]
PIECES += ["x" * 30, "\x00", "Ã© ", "😀"]
TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=60).map("".join) | st.text(min_size=1, max_size=80)
TEXTS = st.lists(TEXT.filter(lambda text: text.strip() != ""), min_size=1, max_size=5)


@pytest.mark.parametrize("name", RUN)
@settings(max_examples=30, deadline=None)
@given(texts=TEXTS)
def test_any_text_is_judged_and_what_is_left_was_there(name: str, texts: list[str]) -> None:
    batch = next(batches_of(map(Document, texts)))
    outcome = RUN[name](batch)
    rows = outcome.batch.column("row").to_pylist()
    dropped, changed = {drop.row for drop in outcome.drops}, {change.row for change in outcome.changes}
    assert sorted([*rows, *dropped]) == list(range(len(texts))) and rows == sorted(rows)
    for row, text in zip(rows, outcome.batch.column("text").to_pylist()):
        assert text.strip()
        assert (text == texts[row]) == (row not in changed)
    alone = [RUN[name](batch.slice(i, 1)) for i in range(len(texts))]
    assert [drop for one in alone for drop in one.drops] == sorted(outcome.drops, key=lambda drop: drop.row)
    assert [text for one in alone for text in one.batch.column("text").to_pylist()] == outcome.batch.column("text").to_pylist()


@pytest.mark.parametrize("name", RUN)
def test_a_batch_of_which_nothing_is_left_is_no_trouble(name: str) -> None:
    empty = next(batches_of([Document("text")])).slice(0, 0)
    outcome = RUN[name](empty)
    assert outcome.batch.num_rows == 0 and not outcome.drops and not outcome.changes


def test_the_first_broken_rule_is_the_reason() -> None:
    batch = next(batches_of(map(Document, "abc")))
    outcome = decide(batch, [("one", np.array([False, True, False])), ("two", np.array([False, True, True]))])
    assert [(drop.row, drop.reason) for drop in outcome.drops] == [(1, "one"), (2, "two")]


def test_shares_of_nothing_are_nothing() -> None:
    assert share(np.array([1, 1]), np.array([2, 0])).tolist() == [0.5, 0.0]


def test_different_words_are_counted_once_each() -> None:
    column = pa.array(["the THE the", "The and", "thermal andes", "the and"], type=pa.large_string())
    among = np.array([True, True, True, False])
    assert holds_words(column, ("the", "and", "of"), 2, among).tolist() == [False, True, False, False]
    assert holds_words(column, ("the", "and", "of"), 1, among).tolist() == [True, True, False, False]
