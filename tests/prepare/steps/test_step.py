"""What steps are made of: dropping, changing, adding columns; the excerpts that tell of it."""

import numpy as np
import pyarrow as pa
import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import EXCERPT, Document
from genus.prepare.steps.step import Change, Drop, around, each_column, follow, keep, replace_text, set_column


def batch(*texts: str, first: int = 0) -> pa.RecordBatch:
    made = next(batches_of(Document(text, line=i + 1) for i, text in enumerate(texts)))
    return set_column(made, "row", range(first, first + len(texts)))


def test_documents_are_kept_by_reason_or_by_mask() -> None:
    documents = batch("good", "bad" * 1000, "good too", "worse", first=7)
    outcome = keep(documents, [None, "too bad", None, "too bad"], excerpts={3: "look here"})
    assert outcome.batch.column("row").to_pylist() == [7, 9] and outcome.batch.column("text").to_pylist() == ["good", "good too"]
    assert outcome.drops == [Drop(8, "too bad", ("bad" * 1000)[:EXCERPT]), Drop(10, "too bad", "look here")]
    masked = keep(documents, np.array([True, False, True, False]), "too bad", excerpts={3: "look here"}, counts={"looked at": 4})
    assert masked.drops == outcome.drops and masked.batch.equals(outcome.batch) and masked.counts == {"looked at": 4}
    assert keep(documents, [None] * 4).batch is documents
    with pytest.raises(ValueError, match="3 decisions on 4"):
        keep(documents, [None] * 3)


def test_texts_are_replaced_and_what_is_left_empty_is_dropped() -> None:
    documents = batch("keep me", "mail a@b.c now", "only@mail.org", "same")
    outcome = replace_text(documents, [None, "mail <e-mail> now", " \n", "same"], "e-mail masked")
    assert outcome.batch.column("text").to_pylist() == ["keep me", "mail <e-mail> now", "same"]
    assert outcome.batch.column("row").to_pylist() == [0, 1, 3]
    assert outcome.changes == [Change(1, "e-mail masked", "mail a@b.c now", "mail <e-mail> now")]
    assert outcome.drops == [Drop(2, "e-mail masked: nothing left", "only@mail.org")]
    each = replace_text(documents, ["Keep me", None, None, "other"], ["capital", None, None, "another"])
    assert [change.reason for change in each.changes] == ["capital", "another"] and not each.drops
    assert replace_text(documents, [None] * 4, "nothing").batch is documents


def test_excerpts_begin_a_little_before_the_difference() -> None:
    same = "x" * 10_000
    before, after = around(same + "old" + same, same + "new" + same)
    assert before.startswith("…xxx") and "xold" in before and "xnew" in after and len(before) <= EXCERPT + 1
    assert around("abc", "abd") == ("abc", "abd")
    assert around("abc", "abcd") == ("abc", "abcd")


def test_both_sides_of_pairs() -> None:
    pairs = next(batches_of([Document("ein Haus", source="a house"), Document("Gift", source="poison")], pairs=True))

    def shout(documents: pa.RecordBatch, column: str):
        texts = [text.upper() if "Haus" in text or "o" in text else "" for text in documents[column].to_pylist()]
        return replace_text(documents, texts, "loud", column)

    outcome = each_column(pairs, shout)
    assert [outcome.batch.column(name).to_pylist() for name in ("text", "source_text")] == [["EIN HAUS"], ["A HOUSE"]]
    assert [drop.row for drop in outcome.drops] == [1] and len(outcome.changes) == 2


def test_outcomes_one_after_the_other() -> None:
    first = keep(batch("a", "b", "c"), [None, "no b", None], counts={"seen": 3, "only": 1})
    both = follow(first, lambda left: keep(left, [None, "no c"], counts={"seen": left.num_rows}))
    assert [drop.row for drop in both.drops] == [1, 2] and both.counts == {"seen": 5, "only": 1} and both.batch.num_rows == 1


def test_columns_are_added_and_replaced() -> None:
    documents = batch("a", "b")
    scored = set_column(documents, "quality", [0.5, 1.0])
    assert scored.schema.field("quality").type == pa.float32() and scored.column("quality").to_pylist() == [0.5, 1.0]
    told = set_column(scored, "language", ["en", None])
    assert told.schema.equals(scored.schema) and told.column("language").to_pylist() == ["en", None]
