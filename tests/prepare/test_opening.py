"""Files behind addresses, on fsspec's in-memory file system: found, described and read as local ones are."""

from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from genus.prepare import prepare
from genus.prepare.opening import below, is_address, is_file, open_raw, stamp
from genus.prepare.sources import find
from genus.prepare.units import cut

from .samples import items_at, rejects, tarred, texts, zipped


@pytest.fixture
def remote() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.pipe("/corpus/train/a.txt", b"one")
    system.pipe("/corpus/train/b.jsonl", b'{"id": 1, "text": "two"}\n')
    system.pipe("/corpus/test/c.txt", b"three")
    system.pipe("/corpus/.hidden/d.txt", b"no")
    yield system
    system.rm("/corpus", recursive=True)


def test_folders_patterns_and_files(remote: Any) -> None:
    found = find(["memory://corpus"])
    assert [(source.label, source.split) for source in found.sources] == [
        ("memory:///corpus/test/c.txt", "test"),
        ("memory:///corpus/train/a.txt", "train"),
        ("memory:///corpus/train/b.jsonl", "train"),
    ]
    assert found.sources[2].field == "text" and found.sources[1].size == 3
    assert texts(items_at("memory://corpus")) == ["three", "one", "two"]
    assert texts(items_at("memory://corpus/*/*.txt")) == ["three", "one"]
    assert texts(items_at("memory://corpus/train/a.txt")) == ["one"]
    with pytest.raises(ValueError, match="no such file or folder: memory://nothing"):
        find(["memory://nothing"])
    with pytest.raises(ValueError, match="nowhere"):
        find(["nowhere://a/b.txt"])


def test_every_kind_of_file(remote: Any) -> None:
    remote.pipe("/corpus/more/a.zip", zipped({"x.txt": b"in a zip"}))
    remote.pipe("/corpus/more/b.tar", tarred({"x.txt": b"in a tar"}))
    with remote.open("/corpus/more/c.parquet", "wb") as out:
        parquet.write_table(pa.table({"text": ["in a table"]}), out)
    with remote.open("/corpus/more/d.arrow", "wb") as out, pa.ipc.new_file(out, pa.schema({"text": pa.string()})) as writer:
        writer.write_batch(pa.record_batch({"text": ["in arrow"]}))
    assert texts(items_at("memory://corpus/more")) == ["in a zip", "in a tar", "in a table", "in arrow"]


def test_the_same_folder_as_from_local_files(remote: Any, tmp_path) -> None:
    lines = "".join(f"Line {i} of a text that is read from afar.\n" for i in range(400))
    (tmp_path / "a.txt").write_text(lines)
    remote.pipe("/corpus/far/a.txt", lines.encode())
    options = {"tokenizer": "bytes", "split_documents": "line", "workers": 1}
    near = prepare(tmp_path / "a.txt", tmp_path / "NEAR", **options)
    far = prepare("memory://corpus/far/a.txt", tmp_path / "FAR", **options)
    assert near.fingerprint == far.fingerprint and far.split("train").documents > 300


def test_a_change_is_noticed_and_a_file_that_goes_away_is_told(remote: Any) -> None:
    from genus.prepare.units import read

    found = find(["memory://corpus/train/a.txt", "memory://corpus/train/b.jsonl"])
    (unit,) = cut(found.sources, "file")
    remote.pipe("/corpus/train/a.txt", b"another text")
    remote.rm("/corpus/train/b.jsonl")
    items = [item for part in unit for item in read(found.sources[part.source], part, "file")]
    assert rejects(items) == [(None, "changed after it was listed, not read"), (None, "gone before it was read")]


def test_remote_files_are_read_once_and_as_they_are_needed(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.pipe("/corpus/long.txt", b"line of text\n" * 1_000_000)
    read: list[int] = []
    of_file = type(remote.open("/corpus/long.txt"))
    true_read = of_file.read
    monkeypatch.setattr(of_file, "read", lambda self, size=-1: read.append(size) or true_read(self, size))
    (source,) = find(["memory://corpus/long.txt"]).sources
    looked = len(read)
    with open_raw(source.path) as file:
        while file.read(1 << 16):
            pass
    assert looked <= 2 and max(read) <= 2**20 and sum(read) < 13_000_000 + 4 * 2**20


def test_errors_of_any_file_system_are_os_errors(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Exception):
        pass

    def fail(*_: Any, **__: Any) -> Any:
        raise Broken("connection lost")

    source = find(["memory://corpus/train/a.txt"]).sources[0]
    monkeypatch.setattr(type(remote.open("/corpus/train/a.txt")), "read", fail)
    with pytest.raises(OSError, match="Broken: connection lost"), open_raw(source.path) as file:
        file.read()
    monkeypatch.setattr(type(remote), "info", fail)
    with pytest.raises(OSError, match="Broken"):
        stamp(source.path)
    with pytest.raises(ValueError, match="cannot be reached"):
        below("memory://corpus/train/a.txt")


def test_addresses_and_files(tmp_path) -> None:
    assert is_address("s3://bucket/x") and not is_address("/data/x") and not is_address("C:\\x")
    assert not is_file(str(tmp_path)) and not is_file("/dev/null") and not is_file("a\0b")
