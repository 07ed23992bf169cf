"""Rows with named columns, from every kind of file, whatever is wrong with some of them."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from genus.prepare.records import Entry, Records, Rejected, read, read_splits, stream

ROWS = [{"text": 'say "no", twice', "label": "bad"}, {"text": "好", "label": "good"}]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    (tmp_path / "lines.json").write_text(lines, encoding="utf-8")
    (tmp_path / "c.csv").write_text('\ufefftext,label\n"say ""no"", twice",bad\n好,good\n', encoding="utf-8")
    (tmp_path / "d.tsv").write_text('text\tlabel\nsay "no", twice\tbad\n好\tgood\n', encoding="utf-8")
    (tmp_path / "wide.csv").write_text('text,label\n"say ""no"", twice",bad\n好,good\n', encoding="utf-16")
    with gzip.open(tmp_path / "e.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(lines)
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "f.parquet")
    for file in tmp_path.iterdir():
        found = read(file)
        assert list(found.rows) == ROWS and found.columns == ["text", "label"] and not found.rejected, file
    assert list(read(tmp_path / "c.csv").places) == [f"{tmp_path / 'c.csv'}:2", f"{tmp_path / 'c.csv'}:3"]


def test_rows_that_cannot_be_read_are_told_one_by_one(tmp_path: Path) -> None:
    bad = tmp_path / "a.csv"
    bad.write_bytes("text,label\ngood,1\nmauvais caf\u00e9,0\n".encode("latin-1") + "好,1\nshort\na,b,c\nlast,0\n".encode())
    found = read(bad)
    assert [row["text"] for row in found.rows] == ["good", "好", "last"]
    assert [(r.place.rpartition(":")[2], r.reason.partition(":")[0]) for r in found.rejected] == [
        ("3", "not valid utf-8"),
        ("5", "wrong number of columns"),
        ("6", "wrong number of columns"),
    ]
    assert found.rejected[2].record == {"text": "a", "label": "b", "column 3": "c"}
    assert not found.remarks
    text = "距离川沙公路较近，但是公交指示不对，如果是蔡陆线的话会非常麻烦，建议用别的路线。房间较为简单。"
    (tmp_path / "old.csv").write_bytes(f"text,label\n{text},0\n{text[:20]},1\n".encode("gb18030"))
    old = read(tmp_path / "old.csv")
    assert old.rows[0]["text"] == text and "is not UTF-8 and was read as gb18030" in old.remarks[0]
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "a"}\n{"text": \n\n[1]\n{"text": "caf\xe9"}\n{"text": "\xe5\xa5\xbd"}\n')
    found = read(tmp_path / "b.jsonl")
    assert [row["text"] for row in found.rows] == ["a", "好"]
    assert [r.place.rpartition(":")[2] for r in found.rejected] == ["2", "4", "5"]
    assert "bad JSON" in found.rejected[0].reason and found.rejected[0].record["value"] == '{"text": '
    entries = list(stream(tmp_path / "b.jsonl"))  # in their order
    assert [type(e) for e in entries] == [Entry, Rejected, Rejected, Rejected, Entry]


MIXED = {
    "a.csv": "id,text\n1,好\n1,好\n".encode() + b"2,caf\xe9 C:\\x\n3,\xff,more\n",
    "a.tsv": "id\ttext\n1\t好\n1\t好\n".encode() + b"2\tcaf\xe9 C:\\x\n3\t\xff\tmore\n",
    "a.jsonl": 2 * '{"id": "1", "text": "好"}\n'.encode()
    + b'{"id": "2", "text": "caf\xe9 C:\\\\x"}\n{"id": "3", "text": "\xff", \n',
    "a.json": ("[" + 2 * '{"id": "1", "text": "好"},\n').encode()
    + b'{"id": "2", "text": "caf\xe9 C:\\\\x"},\n{"id": "3", "text": "\xff", ]',
}


@pytest.mark.parametrize("name", MIXED)
def test_bytes_that_are_no_text_stay_readable(tmp_path: Path, name: str) -> None:
    """No byte is lost: \\xe9 stands where it stood, and the other columns beside it."""
    (tmp_path / name).write_bytes(MIXED[name])
    found = read(tmp_path / name)
    assert list(found.rows) == 2 * [{"id": "1", "text": "好"}]
    first, second = found.rejected
    assert first.reason == "not valid utf-8" and first.record == {"id": "2", "text": "caf\\xe9 C:\\x"}
    assert "caf\\xe9 C:\\x" in first.excerpt and "\\xff" in (second.excerpt or second.record["value"])


def test_half_of_a_pair_stays_readable(tmp_path: Path) -> None:
    """JSON can say what no text holds, at any depth."""
    (tmp_path / "a.jsonl").write_text(r"""{"text": "a \ud83d b", "n": [{"\ud83d": 1}]}
{"text": "\ud83d\ude00"}
["\udc80"]
""")
    found = read(tmp_path / "a.jsonl")
    assert list(found.rows) == [{"text": "😀"}] and found.rejected[0].reason == "not valid Unicode"
    assert [r.record for r in found.rejected] == [{"text": r"a \ud83d b", "n": [{r"\ud83d": 1}]}, {"value": [r"\x80"]}]


def test_parquet_cells_that_are_no_text(tmp_path: Path) -> None:
    cells = pa.array([b"good", b"caf\xe9"]).cast(pa.binary()).view(pa.string())
    words = pa.ListArray.from_arrays(pa.array([0, 1, 3]), pa.array([b"x", b"y", b"\xff"]).view(pa.string()))
    table = pa.table({"id": [1, 2], "text": cells, "words": words, "both": pa.StructArray.from_arrays([cells], ["inner"])})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [row["id"] for row in found.rows] == [1] and [r.place[-2:] for r in found.rejected] == [":2"]
    assert found.rejected[0].record == {"id": 2, "text": r"caf\xe9", "words": ["y", r"\xff"], "both": {"inner": r"caf\xe9"}}


def test_rows_need_not_have_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"b": [2], "a": null}\n')
    found = read(tmp_path / "a.jsonl")
    assert found.columns == ["a", "b"] and list(found.rows) == [{"a": 1}, {"a": None, "b": [2]}]
    assert found.rows[-1]["b"] == [2] and found.rows[:1] == [{"a": 1}]
    with pytest.raises(IndexError):
        found.rows[2]


def test_a_folder_of_splits(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        table = pa.Table.from_pylist([{"text": f"{split} {i}", "label": i % 2} for i in range(count)])
        note = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
        parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(note)}), tmp_path / f"{split}-0.parquet")
    found = read_splits(tmp_path)
    assert {name: len(records) for name, records in found.items()} == {"train": 3, "validation": 1, "test": 2}
    assert found["train"].rows[1] == {"text": "train 1", "label": "yes"}
    assert list(read_splits(tmp_path / "test-0.parquet")) == ["train"]
    (tmp_path / "train-0.parquet").unlink()
    assert sum(len(r) for r in read_splits(tmp_path).values()) == 3  # no training split: all rows are for learning


def test_arrow_files_of_datasets(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"words": ["a", "b"], "tags": [0, 1]}, {"words": ["c"], "tags": [-1]}])
    note = {"info": {"features": {"tags": {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "List"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    with pa.OSFile(str(tmp_path / "data-00000-of-00001.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "dataset_info.json").write_text("{}")
    assert list(read(tmp_path).rows) == [{"words": ["a", "b"], "tags": ["O", "B-X"]}, {"words": ["c"], "tags": [None]}]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('{"text": "a"}\n{"text": "b"}\n', "jsonl"),
        ('[{"text": "a"}, {"text": "b"}]', "json"),
        ("text,n\na,1\nb,2\n", "csv"),
        ("a\nb\n", "text"),
    ],
)
def test_standard_input_is_told_from_its_beginning(monkeypatch: pytest.MonkeyPatch, content: str, kind: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert [row["text"] for row in read("-").rows] == ["a", "b"]


def test_files_that_hold_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read(tmp_path / "none.csv")
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"save a spreadsheet as \.csv"):
        read(tmp_path / "a.xlsx")
    (tmp_path / "empty.csv").write_text("")
    assert len(read(tmp_path / "empty.csv")) == 0


def test_memory_is_that_of_the_values(tmp_path: Path) -> None:
    count = 20_000
    with open(tmp_path / "a.jsonl", "w") as file:
        for i in range(count):
            file.write(json.dumps({"text": f"row number {i} of a long file with short texts in it", "label": i % 3}) + "\n")
    tracemalloc.start()
    found = read(tmp_path / "a.jsonl")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == count and kept / count < 200  # a dict alone would take more
    assert found.rows[count - 1]["label"] == (count - 1) % 3 and found.places[7].endswith("a.jsonl:8")


def test_rows_in_memory_and_renamed() -> None:
    found = Records.of(ROWS, "here")
    assert list(found.rows) == ROWS and found.places[1] == "here:2" and found.select([1]) == ROWS[1:]
    assert found.renamed({"text": "review"}).rows[0] == {"review": ROWS[0]["text"], "label": "bad"}
