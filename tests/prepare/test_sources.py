"""Which files are read, in which order, as what; ready-made splits; the text field."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import zstandard

from genus.prepare.sources import find, split_of


def test_folders_are_walked_in_order_and_the_rest_is_counted(tmp_path) -> None:
    for name in ("b/2.md", "a.txt", "b/1.TXT", "b/c/x.txt.gz", "z.png", "y.png", ".hidden.txt", ".git/a.txt", "LICENSE"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"t") if name.endswith("gz") else b"t")
    found = find([tmp_path])
    assert [Path(source.path).relative_to(tmp_path).as_posix() for source in found.sources] == [
        "a.txt",
        "b/1.TXT",
        "b/2.md",
        "b/c/x.txt.gz",
    ]
    assert found.skipped == {".png": 2, "": 1}
    assert found.sources[3].compression == "gz" and found.sources[0].label == str(tmp_path / "a.txt")


def test_globs_and_named_files_of_unknown_suffix(tmp_path) -> None:
    for name in ("1.log", "2.log", "3.txt"):
        (tmp_path / name).write_text("t")
    found = find([str(tmp_path / "*.log"), tmp_path / "3.txt", tmp_path / "3.txt"])
    assert [Path(source.path).name for source in found.sources] == ["1.log", "2.log", "3.txt"]
    assert "read as plain text" in found.remarks[0]


def test_nothing_to_read(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no such file or folder: .*nowhere"):
        find([tmp_path / "nowhere"])
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no text found .*1 \.png.*Readable"):
        find([tmp_path])


def test_split_names() -> None:
    assert split_of("train-00000-of-00002") == "train" and split_of("data/validation") == "validation"
    assert split_of("wiki.valid") == split_of("dev") == split_of("val_2") == "validation" and split_of("test_2016") == "test"
    assert split_of("training.txt") == "train" and split_of("latest") is None and split_of("devices") is None


def test_ready_made_splits_in_a_folder(tmp_path) -> None:
    for name in ("train.txt", "dev.txt", "test.txt"):
        (tmp_path / name).write_text("t")
    found = find([tmp_path])
    assert {Path(s.path).name: s.split for s in found.sources} == {
        "dev.txt": "validation",
        "test.txt": "test",
        "train.txt": "train",
    }
    assert "ready-made splits kept" in found.remarks[0]
    (tmp_path / "more.txt").write_text("t")  # a file that names no split: no longer clear, all is ours to split
    found = find([tmp_path])
    assert {s.split for s in found.sources} == {None}
    assert any("and 1 more: held out by name, but not every file" in remark for remark in found.remarks)
    (tmp_path / "train.txt").unlink()
    (tmp_path / "more.txt").unlink()
    assert {s.split for s in find([tmp_path]).sources} == {None}


def test_splits_given_as_files(tmp_path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("t")
    found = find([tmp_path], validation=[tmp_path / "b.txt"], test=[tmp_path / "c.txt"])
    assert [s.split for s in found.sources] == ["train", "validation", "test"]
    with pytest.raises(ValueError, match="at least one file to train on"):
        find([tmp_path / "a.txt"], test=[tmp_path / "a.txt"])


def test_hugging_face_folders(tmp_path) -> None:
    saved = tmp_path / "saved"
    for split in ("train", "test"):
        (saved / split).mkdir(parents=True)
        with pa.ipc.new_stream(str(saved / split / "data-00000-of-00001.arrow"), pa.schema({"text": pa.string()})) as out:
            out.write_batch(pa.record_batch({"text": [split]}))
        (saved / split / "state.json").write_text("{}")
        (saved / split / "dataset_info.json").write_text("{}")
    (saved / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = find([saved])
    assert [(s.format, s.split, s.field) for s in found.sources] == [("arrow", "test", "text"), ("arrow", "train", "text")]
    hub = tmp_path / "hub"
    (hub / "data").mkdir(parents=True)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        parquet.write_table(pa.table({"content": ["a"]}), hub / "data" / f"{name}.parquet")
    found = find([hub])
    assert [s.split for s in found.sources] == ["train", "train", "validation"] and found.sources[0].field == "content"


def test_field_is_guessed_asked_for_or_an_error(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "x", "content": "c", "body": "b"}) + "\n")
    assert find([tmp_path]).sources[0].field == "content"
    assert any("text field guessed: content" in remark for remark in find([tmp_path]).remarks)
    assert find([tmp_path], text_field="body").sources[0].field == "body"
    with pytest.raises(ValueError, match=r"no field 'txt' .*fields present: id, content, body.*--field"):
        find([tmp_path], text_field="txt")
    (tmp_path / "a.jsonl").write_text('{"x": "1", "y": "2"}\n')
    with pytest.raises(ValueError, match=r"cannot tell which field .*fields present: x, y"):
        find([tmp_path])
    (tmp_path / "a.jsonl").write_text('{"n": 1, "only": "text here"}\n')
    assert find([tmp_path]).sources[0].field == "only"
    (tmp_path / "b.jsonl").write_text('{"text": "t"}\n')
    found = find([tmp_path], text_field="text")
    assert any("a.jsonl: no field 'text'" in remark for remark in found.remarks)


def test_field_of_tables(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("label,review\n1,good\n")
    assert find([tmp_path]).sources[0].field == "review"
    (tmp_path / "a.csv").write_text("1,good\n0,bad\n")
    with pytest.raises(ValueError, match="without a header line"):
        find([tmp_path], text_field="review")
    assert find([tmp_path], text_field="2").sources[0].field == 1


def test_json_that_is_json_lines(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "b.json").write_text('[\n{"text": "a"}\n]\n')
    (tmp_path / "c.json").write_text('{\n"text": "a"\n}\n')
    assert [s.format for s in find([tmp_path]).sources] == ["jsonl", "json", "json"]


def test_encodings(tmp_path) -> None:
    chinese = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。天下之事，無所不知。\n" * 30
    (tmp_path / "a.txt").write_bytes(chinese.encode("gb18030"))
    (tmp_path / "b.txt").write_bytes(chinese.encode("utf-16"))
    (tmp_path / "c.txt").write_bytes(bytes(range(256)) * 50)
    (tmp_path / "d.txt").write_bytes(("x" * 65535 + "月").encode())  # the peek ends inside a character
    (tmp_path / "e.txt.zst").write_bytes(zstandard.compress(chinese.encode()))
    assert [s.encoding for s in find([tmp_path]).sources] == ["gb18030", "utf-16", "binary", "utf-8", "utf-8"]
