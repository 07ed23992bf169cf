"""CSV, TSV, JSON arrays, Parquet and Arrow: documents, and what happens to bad rows and damaged files."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from genus.prepare import tables
from genus.prepare.items import Document, Item, Lines, Reject
from genus.prepare.tables import read_arrow, read_csv, read_json, read_parquet


def texts(items: list[Item]) -> list[str]:
    return [item.text for item in items if isinstance(item, Document)]


def rejects(items: list[Item]) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, Reject)]


def test_csv_with_quotes_line_ends_and_bad_rows() -> None:
    raw = b'label,review\n1,"two\nlines, and a comma"\n0\n1,\xff\xfe\n\n1,""\n1,a,b\n0,\xe6\x9c\x88\n'
    items = list(read_csv(io.BytesIO(raw), "utf-8", "csv", "review"))
    assert texts(items) == ["two\nlines, and a comma", "月"]
    assert rejects(items) == [
        (4, "wrong number of columns"),
        (5, "not valid utf-8"),
        (7, "empty document"),
        (8, "wrong number of columns"),
    ]
    assert items[-1] == Lines(9)


def test_tsv_takes_quotation_marks_literally_and_needs_no_header() -> None:
    raw = b'1\t"Well, he said\n0\t\'Tis "done"\n'
    assert texts(list(read_csv(io.BytesIO(raw), "utf-8", "tsv", 1))) == ['"Well, he said', '\'Tis "done"']
    assert rejects(list(read_csv(io.BytesIO(raw), "utf-8", "tsv", 7))) == [(n, "wrong number of columns") for n in (1, 2)]


def test_csv_without_the_field_rejects_its_rows() -> None:
    items = list(read_csv(io.BytesIO(b"a,b\n1,2\n3,4\n"), "utf-8", "csv", "text"))
    assert rejects(items) == [(2, "no field 'text'"), (3, "no field 'text'")]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_array_object_and_damage(indent: int | None) -> None:
    records = [{"text": "a [b] {c}"}, {"no": 1}, "bare", {"text": "月\n" * 10}]
    whole = json.dumps(records, indent=indent, ensure_ascii=False)
    items = list(read_json(io.BytesIO(whole.encode()), "utf-8", "text"))
    assert texts(items) == ["a [b] {c}", "bare", "月\n" * 10] and len(rejects(items)) == 1
    assert texts(list(read_json(io.BytesIO(json.dumps(records[0], indent=indent).encode()), "utf-8", "text"))) == ["a [b] {c}"]
    cut = list(read_json(io.BytesIO(whole.encode()[:-8]), "utf-8", "text"))
    assert texts(cut) == ["a [b] {c}", "bare"] and "bad JSON" in rejects(cut)[-1][1]


def test_json_records_larger_than_the_window() -> None:
    records = [{"text": "x" * 3_000_000}, {"text": "y"}]
    items = list(read_json(io.BytesIO(json.dumps(records).encode()), "utf-8", "text"))
    assert [len(text) for text in texts(items)] == [3_000_000, 1]


def test_json_of_a_size_beyond_bounds_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RECORD_BYTES", 1 << 20)
    items = list(read_json(io.BytesIO(json.dumps([{"text": "x" * 4_000_000}]).encode()), "utf-8", "text"))
    assert not texts(items) and len(rejects(items)) == 1


def test_parquet_row_groups(tmp_path) -> None:
    path = str(tmp_path / "a.parquet")
    values = [f"row {i}" for i in range(10)] + [None, ""]
    parquet.write_table(pa.table({"text": values, "n": list(range(12))}), path, row_group_size=4)
    assert texts(list(read_parquet(path, 0, 1, "text"))) == [f"row {i}" for i in range(4)]
    items = list(read_parquet(path, 1, 3, "text"))
    assert texts(items) == [f"row {i}" for i in range(4, 10)] and items[-1] == Lines(8)
    assert rejects(items) == [(7, "empty document"), (8, "empty document")]
    assert rejects(list(read_parquet(path, 0, 3, "nope"))) == [(0, "no field 'nope'")]
    assert {reason for _, reason in rejects(list(read_parquet(path, 0, 1, "n")))} == {"field 'n' is not text"}


def test_parquet_damaged(tmp_path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["row"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "damaged" in rejects(list(read_parquet(str(path), 0, 1, "text")))[0][1]


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_arrow_both_formats_and_bad_unicode(kind: str, tmp_path) -> None:
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xff"))
    batches = [pa.record_batch({"text": ["eins", "zwei"]}), pa.record_batch({"text": bad})]
    writer = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with writer(str(tmp_path / "a.arrow"), batches[0].schema) as out:
        for batch in batches:
            out.write_batch(batch)
    items = list(read_arrow(str(tmp_path / "a.arrow"), "text"))
    assert texts(items) == ["eins", "zwei", "a"] and rejects(items) == [(4, "not valid utf-8")]
    (tmp_path / "b.arrow").write_bytes(b"nonsense")
    assert "damaged" in rejects(list(read_arrow(str(tmp_path / "b.arrow"), "text")))[0][1]
