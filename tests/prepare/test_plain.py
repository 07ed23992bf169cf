"""Plain text and JSON lines: what a document is, bad bytes, sizes; chunks never lose a byte."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genus.prepare import plain
from genus.prepare.items import Document, Lines, Reject, Remark
from genus.prepare.plain import chunks, last_blank_line, last_line, read_json_lines, read_text


def text_items(raw: bytes, mode: str = "file", encoding: str = "utf-8") -> list:
    return list(read_text(io.BytesIO(raw), None, encoding, mode))


def texts(items: list) -> list[str]:
    return [item.text for item in items if isinstance(item, Document)]


def rejects(items: list) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, Reject)]


def test_a_file_is_kept_letter_by_letter() -> None:
    raw = "\ufeffone\r\n\r\ntwo \n".encode()
    assert text_items(raw) == [Document("one\r\n\r\ntwo \n"), Lines(3)]


def test_paragraphs_and_lines() -> None:
    raw = "poem\tauthor\nline 1\nline 2\n\n \t\r\n\nnext\r\nline\r\n\r\n最後\n".encode()
    assert texts(text_items(raw, "blank-line")) == ["poem\tauthor\nline 1\nline 2", "next\r\nline", "最後"]
    assert texts(text_items(raw, "line")) == ["poem\tauthor", "line 1", "line 2", "next", "line", "最後"]
    assert text_items(raw, "line")[-1] == text_items(raw, "blank-line")[-1] == Lines(10)


def test_bad_bytes_cost_one_line_or_paragraph_and_name_it() -> None:
    raw = b"good\n\nbad \xff here\n\nfine\nmore\n\nworse \xe4\xb8\n"
    assert rejects(text_items(raw, "line")) == [(3, "not valid utf-8"), (8, "not valid utf-8")]
    assert rejects(text_items(raw, "blank-line")) == [(3, "not valid utf-8"), (8, "not valid utf-8")]
    assert texts(text_items(raw, "blank-line")) == ["good", "fine\nmore"]


def test_a_small_file_with_bad_bytes_is_recognised_or_rejected_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    german = "Über die Brücke können größere Züge fahren, öfter als früher. Äpfel müssen süß schmecken.\n" * 20
    items = text_items(b"x" + german.encode("cp1252"))
    assert any(isinstance(item, Remark) and "read as" in item.text for item in items)
    assert "größere Züge" in texts(items)[0]
    monkeypatch.setattr(plain, "recognise", lambda raw: None)
    items = text_items(b"fine\n" + german.encode("cp1252"))
    assert not texts(items) and rejects(items) == [(2, "not valid utf-8")]


def test_a_large_file_loses_only_its_bad_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE_BYTES", 1000)
    lines = [b"line %03d of a long file" % i for i in range(200)]
    lines[150] = b"bad \xff"
    items = text_items(b"\n".join(lines))
    assert rejects(items) == [(151, "not valid utf-8")]
    documents = [item for item in items if isinstance(item, Document)]
    assert len(documents) > 3 and [document.starts for document in documents] == [True] + [False] * (len(documents) - 1)
    assert "".join(texts(items)).encode() == b"\n".join(lines[:150] + lines[151:])
    assert all(len(text) <= 1024 for text in texts(items)) and all(text.endswith("\n") for text in texts(items)[:-1])


def test_a_file_that_is_one_line_is_cut_between_words_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE_BYTES", 1000)
    words = "word " * 2000
    assert "".join(texts(text_items(words.encode()))) == words
    assert all(text.endswith("word ") for text in texts(text_items(words.encode())))
    chinese = "月" * 3000
    assert "".join(texts(text_items(chinese.encode(), "line"))) == chinese
    assert "".join(texts(text_items(chinese.encode("gb18030"), "line", "gb18030"))) == chinese


def test_known_length_gives_equal_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE_BYTES", 8000)
    raw = b"0123456\n" * 3005
    items = list(read_text(io.BytesIO(raw + b"not mine\n"), len(raw), "utf-8", "file", first=False, last=False))
    assert [len(text) for text in texts(items)] == [12104, 11936] and not items[0].starts


def test_empty_files() -> None:
    assert text_items(b"") == [Lines(0)]
    assert rejects(text_items(b" \n\n")) == [(1, "empty document")]


JSON_LINES = b"""{"text": "one", "n": 1}
{"text": "two"
{"other": "three"}
{"text": 4}
{"text": "  "}

["five"]
{"text": null}
{"text": "half \\ud800"}
{"text": "\xff"}
"six"
{"text": "seven"}"""


def test_json_lines_quarantine_with_line_and_reason() -> None:
    items = list(read_json_lines(io.BytesIO(JSON_LINES), None, "utf-8", "text"))
    assert texts(items) == ["one", "six", "seven"]
    assert rejects(items) == [
        (2, "bad JSON"),
        (3, "no field 'text'"),
        (4, "field 'text' is not text"),
        (5, "empty document"),
        (7, "not a JSON object"),
        (8, "empty document"),
        (9, "not valid Unicode"),
        (10, "not valid utf-8"),
    ]
    assert items[-1] == Lines(12)
    assert "fields present: other" in next(item.excerpt for item in items if isinstance(item, Reject) and item.line == 3)


def test_json_record_beyond_the_limit_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE_BYTES", 100)
    monkeypatch.setattr(plain, "RECORD_BYTES", 1000)
    raw = b'{"text": "a"}\n{"text": "' + b"x" * 5000 + b'"}\n{"text": "b"}\n'
    items = list(read_json_lines(io.BytesIO(raw), None, "utf-8", "text"))
    assert texts(items) == ["a", "b"]
    assert any("longer than" in reason for _, reason in rejects(items))


def _stuttering(raw: bytes, sizes: Iterator[int]) -> io.BufferedIOBase:
    class Stutter(io.BytesIO):
        def read1(self, count: int | None = -1) -> bytes:
            return super().read1(min(count or 0, next(sizes, 7)))

    return Stutter(raw)


@given(raw=st.binary(max_size=300), size=st.integers(5, 40), sizes=st.lists(st.integers(1, 20), max_size=50))
@settings(max_examples=100, deadline=None)
@example(raw=b"\0\0\0\0\n", size=5, sizes=[])
def test_chunks_never_lose_a_byte(raw: bytes, size: int, sizes: list[int]) -> None:
    for border in (last_line, last_blank_line):
        pieces = list(chunks(_stuttering(raw, iter(sizes)), None, "utf-8", size, 2 * size, border))
        assert b"".join(piece for piece, _ in pieces) == raw
        assert [final for _, final in pieces] == [False] * (len(pieces) - 1) + [True] * bool(raw)


@given(blocks=st.lists(st.sampled_from(["a", "bb\nc", "\n", "\n\n", "月\r\n", " \n"]), max_size=60), size=st.integers(8, 64))
@settings(max_examples=100, deadline=None)
def test_paragraphs_do_not_depend_on_chunks(blocks: list[str], size: int) -> None:
    text = "".join(blocks)
    if any(len(part.encode()) > size // 2 for part in text.replace("\r", "").replace(" \n", "\n").split("\n\n")):
        return  # a paragraph longer than a chunk is cut, and should be
    whole = texts(text_items(text.encode(), "blank-line"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "PIECE_BYTES", size)
        assert texts(text_items(text.encode(), "blank-line")) == whole
