"""Units cover every byte once; documents do not depend on where a file is cut."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import zstandard

from genus.prepare import plain, units
from genus.prepare.items import Document, Lines, Reject
from genus.prepare.sources import find
from genus.prepare.units import Part, cut, read


def everything(folder: Path, mode: str) -> tuple[list[list[Part]], list]:
    sources = find([folder]).sources
    parts = cut(sources, mode)
    return parts, [item for unit in parts for part in unit for item in read(sources[part.source], part, mode)]


@pytest.mark.parametrize("mode", ["line", "blank-line"])
def test_cut_files_give_the_same_documents(mode: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"第{i} line\n{'' if i % 3 else chr(10) * (i % 2 + 1)}" for i in range(3000))
    (tmp_path / "a.txt").write_text(text)
    _, whole = everything(tmp_path, mode)
    monkeypatch.setattr(units, "SMALLEST_UNIT", 5000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 5000)
    parts, items = everything(tmp_path, mode)
    assert len(parts) > 5
    assert [i.text for i in items if isinstance(i, Document)] == [i.text for i in whole if isinstance(i, Document)]
    assert sum(i.number for i in items if isinstance(i, Lines)) == text.count("\n")


def test_a_large_file_is_one_text_in_pieces(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "SMALLEST_UNIT", 5000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 5000)
    monkeypatch.setattr(units, "PIECE_BYTES", 4000)
    monkeypatch.setattr(plain, "PIECE_BYTES", 4000)
    text = "".join(f"line {i}\n" for i in range(5000))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.txt").write_text("line\n" * 1000)  # larger than a unit, smaller than a piece and a half
    parts, items = everything(tmp_path, "file")
    documents = [item for item in items if isinstance(item, Document)]
    assert len(parts) > 5 and [d.starts for d in documents].count(True) == 2
    assert documents[0].starts and documents[-1] == Document("line\n" * 1000)
    assert "".join(d.text for d in documents[:-1]) == text
    assert all(2000 < len(d.text) < 7000 for d in documents)


def test_a_file_without_line_ends_is_one_part(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "SMALLEST_UNIT", 5000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 5000)
    (tmp_path / "a.txt").write_text("word " * 10_000)
    parts, items = everything(tmp_path, "line")
    assert parts == [[Part(0, 0, None)]]
    assert sum(isinstance(item, Document) for item in items) == 1


def test_small_files_share_a_unit(tmp_path) -> None:
    for i in range(50):
        (tmp_path / f"{i:02d}.txt").write_text(f"file {i}")
    parts, items = everything(tmp_path, "file")
    assert len(parts) == 1 and [i.text for i in items if isinstance(i, Document)] == [f"file {i}" for i in range(50)]


def test_parquet_row_groups_are_spread(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "SMALLEST_UNIT", 1000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 1000)
    parquet.write_table(pa.table({"text": [f"{i:0100d}" for i in range(100)]}), tmp_path / "a.parquet", row_group_size=10)
    parts, items = everything(tmp_path, "file")
    assert len(parts) == 10 and [i.text for i in items if isinstance(i, Document)] == [f"{i:0100d}" for i in range(100)]


def test_damaged_files_end_with_a_reject(tmp_path) -> None:
    body = b"".join(b'{"text": "line %d"}\n' % i for i in range(200_000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(body)[:-50_000])
    (tmp_path / "b.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd" + zstandard.compress(body)[4:5000] + b"\xff" * 5000)
    (tmp_path / "c.txt").write_bytes(b"\x00\x01\x02" * 1000)
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe" + "good text\n".encode("utf-16-le") * 50_000 + b"\x00\xd8")
    (tmp_path / "e.csv.gz").write_bytes(b"not gzip")
    (tmp_path / "f.parquet").write_bytes(b"not parquet")
    (tmp_path / "g.txt").write_text("fine")
    _, items = everything(tmp_path, "line")
    rejects = [item for item in items if isinstance(item, Reject)]
    assert {reject.reason.split(",")[0] for reject in rejects} == {"damaged file", "not text", "not valid utf-16"}
    assert len(rejects) == 6
    assert sum(isinstance(item, Document) for item in items) > 50_000 and items[-2] == Document("fine", line=1)
