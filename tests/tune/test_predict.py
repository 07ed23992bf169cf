"""Predict keeps every row and column of a file, and says of each row that has no prediction why."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import genus
from genus.cli import main
from genus.export import huggingface
from genus.parts.task_head import Vectors
from genus.prepare.records import read
from genus.tune.labeller import Labeller
from genus.tune.predict import predict
from genus.tune.tasks.classification import Classification

from .conftest import GOOD, reviews
from .test_tuning import FAST, SIZES, _without, write


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    options = _without(FAST, "overrides") | {"seeds": 1}
    return genus.tune("bert", write(folder / "a.csv", reviews(100)), folder / "run", *SIZES, say=lambda _: None, **options).path


def _quiet(_: str) -> None: ...


def test_every_row_and_column_is_kept(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(
        '{"id": 7, "text": "the film was great", "more": [1, 2]}\n'
        "not json\n"
        '{"id": 8, "text": "  "}\n'
        '{"id": 9}\n'
        '{"text": "so dull", "label": "neg", "prediction": "old"}\n',
        encoding="utf-8",
    )
    tally = predict(run, tmp_path / "in.jsonl", tmp_path / "out.jsonl", say=_quiet)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row.get("prediction") for row in rows] == [None, None, None, None, "old"]
    assert [row.get("prediction 2") for row in rows] == ["pos", None, None, None, "neg"]  # an old column is not written over
    assert [row["error"] for row in rows][2:4] == ["empty text", "no text"] and "bad JSON" in rows[1]["error"]
    assert (
        rows[0] | {"prediction": None} == rows[0] | {"prediction": None}
        and rows[0]["more"] == [1, 2]
        and rows[1]["value"] == "not json"
    )
    assert 0.5 < rows[0]["probability"] <= 1 and rows[0]["error"] is None
    assert (tally.rows, tally.errors, tally.labelled) == (5, 3, 1) and tally.scores["accuracy"] == 1.0


def test_scores_are_those_of_all_rows_however_they_are_read(run: Path, tmp_path: Path) -> None:
    """Rows without a label, with a strange one, and that cannot be read are not scored; some chunks have none that is."""
    rows = [json.dumps(row) for row in reviews(40)]
    rows[5] = "not json"
    rows[6:12] = [json.dumps({"text": "so dull"}), json.dumps({"text": "so dull", "label": "odd"})] * 3
    rows[12] = json.dumps({"text": "so dull", "label": "pos"})
    (tmp_path / "in.jsonl").write_text("\n".join(rows), encoding="utf-8")
    found = [predict(run, tmp_path / "in.jsonl", tmp_path / f"{n}.jsonl", say=_quiet, at_once=n) for n in (1000, 3)]
    assert (tmp_path / "3.jsonl").read_text(encoding="utf-8") == (tmp_path / "1000.jsonl").read_text(encoding="utf-8")
    assert [tally.labelled for tally in found] == [33, 33]
    assert found[1].scores == pytest.approx(found[0].scores) and found[0].scores["accuracy"] < 1


def test_scores_that_need_what_is_not_there_are_told_when_the_file_is_complete(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise ValueError("install something")

    monkeypatch.setattr(Classification, "counts", missing)
    (tmp_path / "in.jsonl").write_text('{"text": "great", "label": "pos"}\n' * 5, encoding="utf-8")
    with pytest.raises(ValueError, match="install something"):
        predict(run, tmp_path / "in.jsonl", tmp_path / "out.jsonl", say=_quiet, at_once=2)
    assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 5


def test_a_column_that_only_a_later_row_has_is_kept(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(
        '{"text": "great"}\n{"text": "dull"}\n{"text": "great", "prediction": "old", "error": 1}\n'
    )
    predict(run, tmp_path / "in.jsonl", tmp_path / "out.jsonl", say=_quiet, at_once=2)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in rows] == ["pos", "neg", "old"]
    assert rows[2]["prediction 2"] == "pos" and rows[2]["error"] == 1 and rows[2]["error 2"] is None


def test_a_table_has_one_header_though_it_begins_with_bad_rows(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('not json\nnor this\n{"text": "great"}\n')
    predict(run, tmp_path / "in.jsonl", tmp_path / "out.csv", say=_quiet, at_once=1)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "text,prediction,probability,error" and len(lines) == 4
    assert "nor this" in lines[2] and lines[3].startswith("great,pos,")


def test_a_table_keeps_its_columns_whatever_later_rows_call_theirs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b'{"text": "great"}\n{"text": "great", "prediction": "old", "error": "own"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    predict(run, "-", tmp_path / "out.csv", say=_quiet, at_once=1)
    rows = read(tmp_path / "out.csv").rows
    assert [row["prediction"] for row in rows] == ["pos", "pos"]
    assert rows[1]["error"] == 'not in the columns: {"prediction": "old", "error": "own"}'


def test_tables(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('n,text\n1,"great, ""so"" great"\n2\n3,a cold story,extra\n', encoding="utf-8")
    predict(run, tmp_path / "in.csv", tmp_path / "out.csv", say=_quiet)
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["n", "text", "prediction", "probability", "error"]
    assert rows[1][:3] == ["1", 'great, "so" great', "pos"] and rows[1][4] == ""
    assert rows[2][:2] == ["2", ""] and "wrong number of columns" in rows[2][4]
    assert rows[3][:2] == ["3", "a cold story"] and '"column 3": "extra"' in rows[3][4]
    (tmp_path / "in.tsv").write_text('text\tn\nthe "great" film\t1\n', encoding="utf-8")
    predict(run, tmp_path / "in.tsv", tmp_path / "out.tsv.gz", say=_quiet)
    assert read(tmp_path / "out.tsv.gz").rows[0]["text"] == 'the "great" film'


def test_plain_lines_and_standard_input(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("a great film\na dull film\n", encoding="utf-8")
    predict(run, tmp_path / "in.txt", tmp_path / "out.csv", say=_quiet)
    assert [row["prediction"] for row in read(tmp_path / "out.csv").rows] == ["pos", "neg"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "so warm"}\n{"text": "so cold"}\n')))
    predict(run, "-", say=_quiet)
    assert [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()] == ["pos", "neg"]


def test_order_is_kept_over_chunks_and_lengths(run: Path, tmp_path: Path) -> None:
    rows = [{"n": i, "text": row["text"] * (1 + i % 3), "label": row["label"]} for i, row in enumerate(reviews(40, 4))]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tally = predict(run, tmp_path / "in.jsonl", tmp_path / "out.jsonl", say=_quiet, at_once=7)
    found = read(tmp_path / "out.jsonl").rows
    assert [row["n"] for row in found] == list(range(40)) and tally.scores["accuracy"] > 0.9
    alone = Labeller.load(run, dtype="fp32")
    for row in found[:5]:
        (told,) = alone([{"text": row["text"]}])
        assert told["prediction"] == row["prediction"] and told["probability"] == pytest.approx(row["probability"], abs=2e-2)


def test_columns_of_another_name(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("review,n\na great film,1\n")
    with pytest.raises(ValueError, match=r"no column 'text', which the model reads.*review, n.*--text"):
        predict(run, tmp_path / "in.csv", tmp_path / "out.csv", say=_quiet)
    assert not (tmp_path / "out.csv").exists() and not list(tmp_path.glob(".*"))
    predict(run, tmp_path / "in.csv", tmp_path / "out.csv", text="review", say=_quiet)
    assert read(tmp_path / "out.csv").rows[0] | {"probability": ""} == {
        "review": "a great film",
        "n": "1",
        "prediction": "pos",
        "probability": "",
        "error": "",
    }


def test_an_interruption_leaves_no_half_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.txt").write_text("good\n" * 30)
    (tmp_path / "out.csv").write_text("the old one")
    label, calls = Labeller.label, []

    def breaks(self: Labeller, rows: list) -> list:
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return label(self, rows)

    monkeypatch.setattr(Labeller, "label", breaks)
    with pytest.raises(KeyboardInterrupt):
        predict(run, tmp_path / "in.txt", tmp_path / "out.csv", say=_quiet, at_once=10)
    assert (tmp_path / "out.csv").read_text() == "the old one" and sorted(p.name for p in tmp_path.iterdir()) == [
        "in.txt",
        "out.csv",
    ]


def test_what_cannot_be_done(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("good\n")
    with pytest.raises(ValueError, match=r"written as \.jsonl, \.csv, \.tsv"):
        predict(run, tmp_path / "in.txt", tmp_path / "out.parquet")
    with pytest.raises(ValueError, match=r"choose \.csv or \.jsonl"):
        predict(run, tmp_path / "in.txt", tmp_path / "out.tsv")
    with pytest.raises(ValueError, match="is the file that is read, and would be written over"):
        predict(run, tmp_path / "in.txt", tmp_path / "x" / ".." / "in.txt")
    (tmp_path / "in.csv").write_text("review;stars\ngood;5\n")
    with pytest.raises(ValueError, match=r"review;stars .one column: write the file with commas instead of semicolons"):
        predict(run, tmp_path / "in.csv")
    (tmp_path / "in.csv").write_text("text,label\n")
    said: list[str] = []
    assert predict(run, tmp_path / "in.csv", tmp_path / "out.csv", say=said.append).rows == 0
    assert said == [f"{tmp_path / 'in.csv'} has no rows: there was nothing to label"]
    spec = genus.load(run).spec.replace(head=Vectors())
    huggingface.save(tmp_path / "bare", spec.build(), spec, genus.load(run).tokenizer)
    with pytest.raises(ValueError, match="was not made by genus tune and is no classifier"):
        predict(tmp_path / "bare", tmp_path / "in.txt", tmp_path / "out.csv")


def test_a_classifier_that_was_not_tuned_here(run: Path, tmp_path: Path) -> None:
    """Its folder says what its labels are."""
    (tmp_path / "in.csv").write_text("review,label\na great film,pos\nso dull,pos\n", encoding="utf-8")
    tally = predict(run / "model", tmp_path / "in.csv", tmp_path / "out.csv", text="review", say=_quiet)
    assert [row["prediction"] for row in read(tmp_path / "out.csv").rows] == ["pos", "neg"] and tally.scores["accuracy"] == 0.5
    with pytest.raises(ValueError, match=r"has no column 'text'.*review, label\. Name the one to read with --text"):
        predict(run / "model", tmp_path / "in.csv", tmp_path / "out.csv")


def test_the_command_says_how_far_it_is(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "in.txt").write_text("a great film\n" * 3, encoding="utf-8")
    monkeypatch.setattr("genus.cli.predict.EVERY", 0.0)
    assert main(["predict", str(run), str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.csv")]) == 0
    assert "3 rows, " in capsys.readouterr().err.splitlines()[0]


def test_tags_and_answers(tmp_path: Path) -> None:
    rows = [{"words": r["text"].split(), "tags": ["B-X" if w in GOOD else "O" for w in r["text"].split()]} for r in reviews(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = _without(FAST, "overrides") | {"seeds": 1}
    tuned = genus.tune("bert", tmp_path / "a.jsonl", tmp_path / "run", *SIZES, say=_quiet, **options)
    genus.predict(tuned.path, tmp_path / "a.jsonl", tmp_path / "out.jsonl", say=_quiet)
    found = read(tmp_path / "out.jsonl").rows
    assert all(len(row["prediction"]) == len(row["words"]) == len(row["probability"]) for row in found)
    config = json.loads((tuned.model_dir / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"] and config["id2label"] == {"0": "O", "1": "B-X"}
    said = [{"context": r["text"], "question": "so", "answers": [r["text"].split()[-1]]} for r in reviews(30)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    tuned = genus.tune("bert", tmp_path / "q.jsonl", tmp_path / "qa", *SIZES, say=_quiet, **(options | {"epochs": 1}))
    genus.predict(tuned.path, tmp_path / "q.jsonl", tmp_path / "out.csv", say=_quiet)
    for row in read(tmp_path / "out.csv").rows:
        start = int(row["start"])
        assert row["context"][start : start + len(row["prediction"])] == row["prediction"] and row["error"] == ""


def test_progress_is_told_and_can_end_the_work(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a great film\n" * 7, encoding="utf-8")
    told: list[int] = []
    predict(run, tmp_path / "in.txt", tmp_path / "out.csv", say=_quiet, advance=told.append, at_once=3)
    assert told == [3, 6, 7] and len(read(tmp_path / "out.csv").rows) == 7

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(run, tmp_path / "in.txt", tmp_path / "no.csv", say=_quiet, advance=stop, at_once=3)
    assert not (tmp_path / "no.csv").exists()
