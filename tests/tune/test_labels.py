"""Labels that are wrong: each kind has a message, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genus.tune.labels import Labels, read_labels, write_rejected
from genus.tune.options import TuneOptions

GOOD = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(10))


def _read(path: Path, content: str, **options: object) -> tuple[Labels, str]:
    path.write_text(content, encoding="utf-8")
    said: list[str] = []
    return read_labels(path, TuneOptions(**options), said.append), "\n".join(said)  # type: ignore[arg-type]


def test_empty_labels_are_left_out_and_written_down(tmp_path: Path) -> None:
    labels, said = _read(tmp_path / "a.csv", f"text,label\n{GOOD}no label,\n,a\nlast one,a\nshort\n")
    assert len(labels.train) == 11 and labels.places[-1].endswith("a.csv:14")
    assert "3 of 14 rows of" in said and "1 empty label" in said and "1 empty text" in said and "rejected.jsonl" in said
    write_rejected(tmp_path / "rejected.jsonl", labels.rejected)
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert {(line["place"].rpartition(":")[2], line["reason"].partition(":")[0]) for line in lines} == {
        ("12", "empty label"),
        ("13", "empty text"),
        ("15", "wrong number of columns"),
    }
    assert {"text": "no label", "label": ""} in [line["record"] for line in lines]


def test_missing_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"columns are words, kind.*--text and --label"):
        _read(tmp_path / "a.csv", "words,kind\nx,y\nz,w\n")
    with pytest.raises(ValueError, match=r"no column 'klass' in .*a\.csv \(name one with --label\); there are text, label$"):
        _read(tmp_path / "a.csv", f"text,label\n{GOOD}", label="klass")
    with pytest.raises(ValueError, match="holds no row that could be read"):
        _read(tmp_path / "a.jsonl", "not json\n")


def test_a_label_seen_once(tmp_path: Path) -> None:
    labels, said = _read(tmp_path / "a.csv", f"text,label\n{GOOD}odd one,c\n")
    assert labels.task.labels == ("a", "b", "c")  # type: ignore[attr-defined]
    assert "1 class has a single row ('c')" in said and "label a few more" in said


def test_unequal_classes(tmp_path: Path) -> None:
    rows = "".join(f"text {i},{'a' if i else 'b'}\n" for i in range(9)) + "more,b\n"
    _, said = _read(tmp_path / "a.csv", "text,label\n" + rows)
    assert "2 classes in 10 rows: a 8 (80 %), b 2 (20 %)" in said
    assert "'a' is 4 times as frequent as 'b'; always saying 'a' is right in 80 %" in said


def test_leakage_is_taken_out_of_the_training_rows(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\nTEXT  3,b\nnew,a\n")
    labels, said = _read(tmp_path / "a.csv", f"text,label\n{GOOD}text 1,a\n", test=str(tmp_path / "test.csv"))
    assert len(labels.train) == 10 and not any(row["text"] == "text 3" for row in labels.train) and len(labels.test or ()) == 2
    assert "leakage: 1 row to learn from, with the same text in the test set too" in said and "only the test copy is kept" in said
    assert "1 row with the text of an earlier one, 1 of them with another label" in said
    (tmp_path / "all.csv").write_text(f"text,label\n{GOOD}")
    with pytest.raises(ValueError, match="every row to learn from stands in a set that judges"):
        _read(tmp_path / "a.csv", f"text,label\n{GOOD}", test=str(tmp_path / "all.csv"))


def test_leakage_between_the_sets_that_judge(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\nnew,a\nnewer,b\n")
    (tmp_path / "valid.csv").write_text("text,label\nNEW ,a\nother,b\n")
    sets = {"test": str(tmp_path / "test.csv"), "validation": str(tmp_path / "valid.csv")}
    labels, said = _read(tmp_path / "a.csv", f"text,label\n{GOOD}", **sets)
    assert [row["text"] for row in labels.validation or ()] == ["other"] and len(labels.test or ()) == 2
    assert "leakage: 1 row of the validation set, with the same text in the test set too" in said
    with pytest.raises(ValueError, match="every row of the validation set stands in the test set"):
        _read(tmp_path / "a.csv", f"text,label\n{GOOD}", test=sets["test"], validation=sets["test"])


def test_a_test_set_may_call_its_columns_otherwise(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("label\tcontent\na\tx\nz\ty\n")
    labels, said = _read(tmp_path / "a.csv", f"text,label\n{GOOD}", test=str(tmp_path / "test.tsv"))
    assert list(labels.test or ()) == [{"label": "a", "text": "x"}] and "the test set calls the column 'text' 'content'" in said
    assert "label 'z' is not among those that were learnt from" in said  # left out, and said
    (tmp_path / "test.tsv").write_text("label\tsomething\na\tx\n")
    with pytest.raises(ValueError, match=r"the test set .* has no column 'text'; its columns are label, something"):
        _read(tmp_path / "a.csv", f"text,label\n{GOOD}", test=str(tmp_path / "test.tsv"))


def test_mixed_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(f"text,label\n{GOOD}好吃,a\n".encode() + "caf\u00e9,b\n".encode("latin-1"))
    said: list[str] = []
    labels = read_labels(tmp_path / "a.csv", TuneOptions(), said.append)
    assert len(labels.train) == 11 and "1 not valid utf-8" in "\n".join(said) and labels.rejected[0].place.endswith(":13")


def test_a_folder_with_splits(tmp_path: Path) -> None:
    for name, start in (("train", 0), ("validation", 100), ("test", 200)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"t {start + i},{'ab'[i % 2]}\n" for i in range(6)))
    labels = read_labels(tmp_path, TuneOptions(), lambda _: None)
    assert [len(rows or ()) for rows in (labels.train, labels.validation, labels.test)] == [6, 6, 6]


def test_the_fingerprint_notices_a_change(tmp_path: Path) -> None:
    first, _ = _read(tmp_path / "a.csv", f"text,label,n\n{GOOD.replace(',a', ',a,1').replace(',b', ',b,1')}")
    other, _ = _read(tmp_path / "b.csv", f"text,label,n\n{GOOD.replace(',a', ',a,2').replace(',b', ',b,2')}")
    changed, _ = _read(tmp_path / "c.csv", f"text,label\n{GOOD.replace('text 3,b', 'text 3,a')}")
    assert first.fingerprint == other.fingerprint != changed.fingerprint
