"""Hostile input: bounded, counted, survived, each with a reason."""

import gzip
import io
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genus.prepare import limits, plain, prepare, row_lines, tables
from genus.prepare.items import Document, Item, Lines, Reject, Remark
from genus.prepare.limits import Budget, Excess
from genus.prepare.plain import read_json_lines, read_text
from genus.prepare.sources import find
from genus.prepare.tables import read_csv, read_json
from genus.prepare.units import cut, read

from .samples import documents, items_at, items_of, rejects, samples, tarred, texts, zipped


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_files_of_every_kind_are_survived(data: st.DataObject) -> None:
    name, content = data.draw(st.sampled_from(sorted(samples().items())))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        what = data.draw(st.sampled_from(["cut", "flip", "insert", "repeat", "swap"]))
        if what == "cut":
            content = content[:at]
        elif what == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ (1 << data.draw(st.integers(0, 7)))]) + content[at + 1 :]
        elif what == "insert":
            content = content[:at] + data.draw(st.binary(max_size=20)) + content[at:]
        elif what == "repeat":
            content = content[:at] + content[: data.draw(st.integers(0, 200))] + content[at:]
        else:
            content = content[at:] + content[:at]
    is_sound(items_of(name, content))


@given(name=st.sampled_from(sorted(samples())), content=st.binary(max_size=2000))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anything_under_any_name_is_survived(name: str, content: bytes) -> None:
    is_sound(items_of(name, content))


def is_sound(items: list[Item]) -> None:
    """What every reader owes its caller."""
    for item in items:
        assert isinstance(item, Document | Reject | Remark | Lines)
        if isinstance(item, Document):
            item.text.encode()
            (item.name or "").encode()
            assert item.text.strip() and item.line >= 0
        elif isinstance(item, Reject):
            json.dumps(item).encode()
            assert item.reason and len(item.excerpt) <= 500 and item.line >= 0
    assert sum(isinstance(item, Lines) for item in items) <= 1


def test_a_bomb_of_one_file_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 2**20)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"bomb line\n" * 2_000_000))
    items = items_at(tmp_path)
    assert rejects(items) == [(None, "unpacks to too much, rest not read")]
    assert sum(len(text) for text in texts(items)) <= 2**23


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "nested"])
def test_bombs_in_archives_pay_from_one_budget(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 2**20)
    members = {f"{i}.txt": b"x y " * 500_000 for i in range(20)}
    content = {"zip": lambda: zipped(members), "tar.gz": lambda: gzip.compress(tarred(members))}
    raw = content[kind]() if kind in content else zipped({"a.zip": zipped({"b.zip": zipped(members)})})
    (tmp_path / f"a.{kind if kind != 'nested' else 'zip'}").write_bytes(raw)
    items = items_at(tmp_path)
    assert any(reason.endswith("rest not read") for _, reason in rejects(items))
    assert sum(len(text) for text in texts(items)) <= 1.1 * max(2**20, limits.RATIO * len(raw))
    assert len(documents(items)) < 20 * 8


def test_members_that_overlap_and_sizes_that_lie(tmp_path: Path) -> None:
    raw = bytearray(zipped({"a.txt": b"good", "b.txt": b"text " * 1000}))
    directory = raw.rindex(b"PK\1\2")
    raw[directory + 24 : directory + 28] = struct.pack("<I", 10)  # b.txt claims ten bytes
    items = items_of("a.zip", bytes(raw))
    assert "good" in texts(items) and ("b.txt", "damaged member of an archive") in rejects(items)
    overlapping = bytearray(zipped({"a.txt": b"good " * 100, "b.txt": b"text " * 100}))
    second = overlapping.rindex(b"PK\1\2")
    overlapping[second + 42 : second + 46] = struct.pack("<I", 0)  # b.txt lies where a.txt does
    is_sound(items_of("a.zip", bytes(overlapping)))
    assert rejects(items_of("a.zip", bytes(overlapping)))


def test_archives_inside_archives_have_an_end() -> None:
    raw = zipped({"deep.txt": b"deep"})
    for _ in range(limits.DEPTH - 1):
        raw = zipped({"a.zip": raw})
    assert texts(items_of("a.zip", raw)) == ["deep"]
    assert rejects(items_of("a.zip", zipped({"a.zip": raw}))) == [
        ("/".join(["a.zip"] * limits.DEPTH), "archives nested too deeply")
    ]


def test_names_that_climb_out_of_the_archive_are_only_names(tmp_path: Path) -> None:
    members = {"../../escape.txt": b"one", "/etc/absolute.txt": b"two", "C:\\x.txt": b"three", "a\x1b[31m\n.txt": b"four"}
    before = sorted(tmp_path.rglob("*"))
    for name, raw in (("a.zip", zipped(members)), ("a.tar", tarred(members))):
        items = documents(items_of(name, raw))
        assert [item.text for item in items] == ["one", "two", "three", "four"]
        assert items[0].name == "../../escape.txt" and all((item.name or "").isprintable() for item in items)
    assert sorted(tmp_path.rglob("*")) == before and not Path("/etc/absolute.txt").exists()


def test_links_and_devices_in_archives_are_not_followed() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind, target in (
            (tarfile.SYMTYPE, "/etc/passwd"),
            (tarfile.LNKTYPE, "a.txt"),
            (tarfile.CHRTYPE, ""),
            (tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo("a.txt")
            member.type, member.linkname = kind, target
            archive.addfile(member)
    items = items_of("a.tar", out.getvalue())
    assert not documents(items) and Remark("members left aside: 4 links and devices") in items


def test_headers_that_claim_any_length() -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        member = tarfile.TarInfo("x")
        member.type, member.size = kind, 2**33
        items = items_of("a.tar", member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 5000)
        assert rejects(items) == [(None, "damaged file, rest not read")]
    record = b"WARC/1.0\r\nWARC-Type: response\r\nX: " + b"y" * 3_000_000
    assert rejects(items_of("a.warc", record)) == [(None, "damaged file, rest not read")]


def test_encrypted_members() -> None:
    raw = bytearray(zipped({"a.txt": b"secret", "b.txt": b"open"}))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(mark) + at] |= 1
    items = items_of("a.zip", bytes(raw))
    assert rejects(items) == [("a.txt", "encrypted")] and texts(items) == ["open"]


@pytest.mark.parametrize("suffix", ["txt.gz", "jsonl.gz", "tar.gz", "csv.gz", "json.gz"])
def test_files_cut_short_give_what_they_hold(suffix: str, tmp_path: Path) -> None:
    random.seed(1)
    words = [f"word {random.random()}" for _ in range(40_000)]
    raw = {
        "txt.gz": "\n".join(words).encode(),
        "jsonl.gz": "".join(f'{{"text": "{word}"}}\n' for word in words).encode(),
        "csv.gz": ("text\n" + "\n".join(words)).encode(),
        "json.gz": json.dumps([{"text": word} for word in words]).encode(),
        "tar.gz": tarred({f"{i}.txt": word.encode() for i, word in enumerate(words[:500])}),
    }[suffix]
    packed = gzip.compress(raw)
    (tmp_path / f"a.{suffix}").write_bytes(packed[: len(packed) * 3 // 4])
    items = items_at(tmp_path, "line")
    assert len(documents(items)) > 100
    assert [reason for _, reason in rejects(items)][-1] == "damaged file, rest not read"


class Endless(io.RawIOBase):
    """`size` bytes of x after a beginning, which take no room."""

    def __init__(self, beginning: bytes, size: int, end: bytes = b"") -> None:
        self.parts = [beginning, end]
        self.left, self.block = size, b"x" * 2**20

    def readable(self) -> bool:
        return True

    def read1(self, count: int = -1) -> bytes:
        if self.parts[0]:
            given, self.parts[0] = self.parts[0][:count], self.parts[0][count:]
        elif self.left:
            given = self.block[: min(count, self.left)]
            self.left -= len(given)
        else:
            given, self.parts[1] = self.parts[1][:count], self.parts[1][count:]
        return given

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        given = self.read1(len(buffer))
        buffer[: len(given)] = given
        return len(given)


READERS = {
    "text": (b"", lambda file: read_text(file, None, "utf-8", "file"), b"\nlast"),
    "line": (b"", lambda file: read_text(file, None, "utf-8", "line"), b"\nlast"),
    "jsonl": (
        b'{"text": "first"}\n{"text": "',
        lambda file: read_json_lines(file, None, "utf-8", "text"),
        b'"}\n{"text": "last"}\n',
    ),
    "csv": (b"text\nfirst\n", lambda file: read_csv(file, "utf-8", "csv", "text"), b"\nlast\n"),
    "quote": (b'text\nfirst\n"', lambda file: read_csv(file, "utf-8", "csv", "text"), b"\nlast\n"),
    "json": (b'[{"text": "first"}, {"text": "', lambda file: read_json(file, "utf-8", "text"), b'"}]'),
}


def consume(kind: str, size: int) -> tuple[list[str], list[Reject], int]:
    beginning, reader, end = READERS[kind]
    rejected, short, peak = [], [], 0
    file = Endless(beginning, size, end)
    tracemalloc.start()
    try:
        for item in reader(file if kind in ("text", "line", "jsonl") else io.BufferedReader(file)):
            if isinstance(item, Document) and len(item.text) < 100:
                short.append(item.text)
            elif isinstance(item, Reject):
                rejected.append(item)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return short, rejected, peak


@pytest.mark.parametrize("kind", READERS)
def test_a_line_without_an_end_is_read_in_bounded_memory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plain, tables, row_lines):
        monkeypatch.setattr(module, "RECORD_BYTES", 2**20)
    monkeypatch.setattr(plain, "PIECE_BYTES", 2**18)
    short, rejected, peak = consume(kind, 100 * 2**20)
    assert peak < 16 * 2**20
    if kind in ("jsonl", "csv"):
        assert short == ["first", "last"] and len(rejected) == 1 and rejected[0].line == (2 if kind == "jsonl" else 3)
    elif kind in ("quote", "json"):
        assert short[0] == "first" and len(rejected) == 1
    else:
        assert not rejected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
def test_a_line_of_ten_gigabytes(kind: str) -> None:
    short, rejected, peak = consume(kind, 10 * 2**30)
    assert peak < 800 * 2**20
    assert kind == "text" or (short, len(rejected)) == (["first", "last"], 1)


MEASURED = """
import json, resource, sys
from genus.prepare import prepare
data = prepare(sys.argv[1], sys.argv[2], tokenizer="bytes", workers=1)
documents = sum(split["documents"] for split in data.manifest["splits"].values())
print(json.dumps([documents, data.manifest["drops"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "quote"])
def test_prepare_needs_bounded_memory_for_a_long_line(kind: str, tmp_path: Path) -> None:
    beginning, _, end = READERS[kind]
    file = tmp_path / f"a.{'csv' if kind == 'quote' else kind}"
    with open(file, "wb") as out:
        out.write(beginning)
        for _ in range(800):
            out.write(b"x" * 2**20)
        out.write(end)
    command = [sys.executable, "-c", MEASURED, str(file), str(tmp_path / "out")]
    documents, drops, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert documents and sum(drops.values()) == 1, drops
    assert peak * 1024 < 600 * 2**20


def test_json_that_is_nested_or_long_beyond_measure(tmp_path: Path) -> None:
    deep = b"[" * 200_000
    lines = [b'{"text": "first"}', deep, b'{"text": ' + deep, b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}"]
    lines += [b'{"n": ' + b"1" * 10_000 + b', "text": "x"}', b'{"text": "\\u0000\\u0000\\u0000"}', b'{"text": "last"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "b.json").write_bytes(deep)
    (tmp_path / "c.json").write_bytes(b'[{"text": "kept"}, {"n": ' + b"9" * 10_000 + b"}]")
    items = items_at(tmp_path)
    assert texts(items) == ["first", "last", "kept"]
    reasons = [reason for _, reason in rejects(items)]
    assert reasons.count("bad JSON") == 3 and reasons.count("null bytes") == 1
    assert reasons.count("bad JSON, rest of the file not read") == 2


def test_null_bytes_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    good = "A text of some length, so that one null is little. " * 4
    (tmp_path / "a.txt").write_bytes(f"{good}\0".encode())
    (tmp_path / "b.txt").write_bytes(("x" * 70_000 + "\n" + "\0" * 70_000).encode())
    (tmp_path / "c.txt").write_bytes(b"\0" * 5000)
    (tmp_path / "d.csv").write_bytes(f"text\n{good}\0\n".replace(",", "").encode())
    assert [(texts([item]) or rejects([item])[0][1]) for item in items_at(tmp_path) if not isinstance(item, Lines)] == [
        [f"{good}\0"],
        "null bytes",
        "not text",
        [f"{good}\ufffd".replace(",", "")],
    ]


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_invalid_utf8_in_every_mode(raw: bytes) -> None:
    for mode in ("file", "blank-line", "line"):
        is_sound(list(read_text(io.BufferedReader(io.BytesIO(b"good\n\n" + raw)), None, "utf-8", mode)))


def test_a_file_that_grows_or_goes_between_finding_and_reading(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(f"text {name}")
    sources = find([tmp_path]).sources
    (unit,) = cut(sources, "file")
    (tmp_path / "a.txt").write_text("a longer text than before")
    (tmp_path / "b.txt").unlink()
    items = [item for part in unit for item in read(sources[part.source], part, "file")]
    assert rejects(items) == [(None, "changed after it was listed, not read"), (None, "gone before it was read")]
    assert texts(items) == ["text c.txt"]


def test_a_file_that_is_cut_short_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE_BYTES", 1 << 16)
    path = tmp_path / "a.txt"
    path.write_text("line of a text\n" * 250_000)
    (source,) = find([path]).sources
    (unit,) = cut([source], "line")
    items = read(source, unit[0], "line")
    first = next(items)
    os.truncate(path, 200_000)
    is_sound([first, *items])


def test_arrow_files_with_false_offsets_do_not_end_the_process() -> None:
    raw = samples()["a.arrow"]
    offsets = struct.pack("<4i", 0, 4, 8, 12)
    assert raw.count(offsets) == 1
    items = items_of("a.arrow", raw.replace(offsets, struct.pack("<4i", 0, 2**30, 2**30 + 4, 2**31 - 1)))
    assert rejects(items) == [(None, "damaged file, rest not read")]


def test_a_budget_is_kept_to_the_byte() -> None:
    budget = Budget(0)
    budget.spend(limits.FREE_BYTES)
    with pytest.raises(Excess, match="more than"):
        budget.spend(1)
    assert Budget(10**9).limit == limits.RATIO * 10**9


def test_everything_hostile_at_once_is_counted_and_the_rest_prepared(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(30):
        (folder / f"good{i}.txt").write_text(f"A good text, the one with the number {i}, stays.\n" * 3)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "cut"}\n' * 100)[:40])
    (folder / "deep.jsonl").write_bytes(b'{"text": "x"}\n' + b"[" * 100_000)
    (folder / "nulls.txt").write_bytes(b"\0" * 1000)
    (folder / "bad.zip").write_bytes(b"PK\3\4" + b"\0" * 100)
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "climb.zip").write_bytes(zipped({"../up.txt": b"A text whose name climbs."}))
    data = prepare(folder, tmp_path / "DATA", tokenizer="bytes", workers=1)
    told = [json.loads(line) for file in (tmp_path / "DATA" / "rejected").glob("*.jsonl") for line in file.open()]
    assert {Path(each["source"]).name for each in told} >= {"cut.jsonl.gz", "deep.jsonl", "nulls.txt", "bad.zip"}
    assert sum(split["documents"] for split in data.manifest["splits"].values()) == 33
    assert not (tmp_path / "up.txt").exists() and zipfile.is_zipfile(folder / "climb.zip")
