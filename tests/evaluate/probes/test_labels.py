"""Files of labelled examples, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from genus.evaluate.probes.labels import Example, read_labels

WANTED = (Example('say "no", twice', "bad"), Example("好", "good"))


def test_three_kinds_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('label\ttext\nbad\tsay "no", twice\ngood\t好\n\n', encoding="utf-8")
    (tmp_path / "a.csv").write_text('\ufefftext,label\n"say ""no"", twice",bad\n好,good\n', encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(
        '{"text": "say \\"no\\", twice", "label": "bad"}\n\n{"id": 1, "label": "good", "text": "好"}\n', encoding="utf-8"
    )
    for name in ("a.tsv", "a.csv", "a.jsonl"):
        assert read_labels(tmp_path / name) == WANTED


def test_published_files(shared_data: Path) -> None:
    examples = read_labels(shared_data / "glue_sst2" / "dev.tsv")
    assert len(examples) > 800 and {e.label for e in examples} == {"0", "1"}
    assert len({e.label for e in read_labels(shared_data / "fewclue_eprstmt" / "dev_0.json")}) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "", "save a spreadsheet as .csv"),
        ("a.csv", "words,label\nx,y\n", "no column text; its columns are words, label"),
        ("a.csv", "", "no column text and label; its columns are none"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: not an object with named columns"),
        ("a.jsonl", '{"text": "x"\n', "a.jsonl:1: bad JSON"),
        ("a.csv", "text,label\nx,y\nz,y\n", r"2 examples with 1 label\(s\)"),
        ("a.csv", "text,label\n" + "".join(f"x,{i}\n" for i in range(60)), "60 different labels and at most 50"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / name)


def test_rows_that_are_left_out_are_counted(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("text,label\ngood day,a\n,b\nshort\nbad day,b\n", encoding="utf-8")
    said: list[str] = []
    assert [e.label for e in read_labels(tmp_path / "labels.csv", said.append)] == ["a", "b"]
    assert len(said) == 1 and "2 of 4 rows without a text or a label were left out" in said[0]
