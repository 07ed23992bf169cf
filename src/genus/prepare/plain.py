"""Read plain text and JSON lines, in chunks that end at a line border: bounded memory, whatever the size of file or line."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from genus.prepare.decode import is_utf8, read_errors, recognise
from genus.prepare.items import Document, Item, Lines, Pair, Reject, Remark, excerpt, is_null, pair_from_record, shown, take

PIECE_BYTES = 8 * 2**20
"""A plain text larger than this becomes several documents of about this size, cut at line ends."""

RECORD_BYTES = 64 * 2**20
"""A JSON record may be at most this long."""

SPLIT_MODES = ("file", "blank-line", "line")

BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


def read_text(
    file: BinaryIO, length: int | None, encoding: str, mode: str, first: bool = True, last: bool = True
) -> Iterator[Item]:
    """Documents of a plain text: the file, its paragraphs (groups of lines between blank lines) or its lines.

    Args:
        length: bytes to read; None for all.
        mode: "file", "blank-line" or "line".
        first, last: whether the part begins and ends where the file does.
    """
    lines = 0
    starts = first
    border = last_blank_line if mode == "blank-line" else last_line
    size = PIECE_BYTES
    if length is not None:  # equal pieces, rather than a last one of a few bytes
        size = length // max(1, round(length / PIECE_BYTES)) + 4096
    for raw, final in chunks(file, length, encoding, size, size, border):
        if starts and first:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if mode == "file":
            yield from _as_one(raw, encoding, lines + 1, starts, alone=starts and final and last)
        elif mode == "line":
            yield from _by_line(raw, encoding, lines)
        else:
            yield from _by_paragraph(raw, encoding, lines)
        starts = False
        lines += raw.count(b"\n") + (final and not raw.endswith(b"\n"))
    yield Lines(lines)


def read_json_lines(file: BinaryIO, length: int | None, encoding: str, field: str | Pair) -> Iterator[Item]:
    """Documents of JSON lines: the text field of one object per line, or its two fields."""
    line = 0
    inside = False  # a line whose beginning was too long
    for raw, final in chunks(file, length, encoding, PIECE_BYTES, RECORD_BYTES, last_line):
        if inside:
            inside = b"\n" not in raw
            if inside:
                continue
            raw = raw[raw.index(b"\n") + 1 :]
            if not raw:
                continue
        inside = b"\n" not in raw and (not final or len(raw) >= RECORD_BYTES)
        for each in raw.split(b"\n") if not raw.endswith(b"\n") else raw[:-1].split(b"\n"):
            line += 1
            if not each.strip():
                continue
            if inside:
                yield Reject(line, f"record longer than {RECORD_BYTES >> 20} MB", excerpt(each))
                continue
            try:
                record = json.loads(each.decode(encoding if line > 1 else encoding.replace("utf-8", "utf-8-sig")))
            except UnicodeDecodeError as error:
                yield Reject(line, f"not valid {encoding}", f"byte {error.start}: {excerpt(each)}")
            except (ValueError, RecursionError) as error:
                yield Reject(line, "bad JSON", f"{brief(error)}: {excerpt(each)}")
            else:
                yield from_record(record, field, line)
    yield Lines(line)


def from_record(record: object, field: str | Pair, line: int) -> Document | Reject:
    """The document in a decoded JSON value: an object with the field, or a bare string; or the pair in an object."""
    if isinstance(field, tuple):
        return pair_from_record(record, field, line)
    if isinstance(record, str):
        return take(record, None, line)
    if not isinstance(record, dict):
        return Reject(line, "not a JSON object", shown(record))
    if field not in record:
        return Reject(line, f"no field {field!r}", f"fields present: {', '.join(map(str, record))}"[:200])
    return take(record[field], field, line)


def chunks(
    file: BinaryIO, length: int | None, encoding: str, size: int, limit: int, border: Callable[[bytes], int]
) -> Iterator[tuple[bytes, bool]]:
    """Cut a stream into chunks of about `size` bytes, each ending after a border; yields (bytes, whether it is the last).

    A stretch without a border grows to `limit` and is then cut between two words, or failing that between two characters.
    """
    damage: tuple[type[Exception], ...] = (UnicodeDecodeError, *read_errors())
    held: bytes | None = None  # until it is known whether more follows
    try:
        for piece in _pieces(file, length, encoding, size, limit, border):
            if held is not None:
                yield held, False
            held = piece
    except damage:
        if held is not None:
            yield held, False
        raise
    if held is not None:
        yield held, True


def _pieces(
    file: BinaryIO, length: int | None, encoding: str, size: int, limit: int, border: Callable[[bytes], int]
) -> Iterator[bytes]:
    left = length
    buffer = b""
    while True:
        block, damage = _fill(file, size if left is None else min(size, left))
        left = None if left is None else left - len(block)
        buffer += block
        if damage is not None:
            if cut := border(buffer):
                yield buffer[:cut]
            raise damage
        if not block or left == 0:
            if buffer:
                yield buffer
            return
        while len(buffer) >= size:
            cut = border(buffer)
            if cut <= 0:
                if len(buffer) < limit:
                    break
                cut = _between_words(buffer, encoding)
            yield buffer[:cut]
            buffer = buffer[cut:]


def _fill(file: BinaryIO, count: int) -> tuple[bytes, Exception | None]:
    """Read `count` bytes; at damage, return what came before it together with the error."""
    blocks: list[bytes] = []
    try:
        while count and (block := file.read1(count)):  # type: ignore[attr-defined]
            blocks.append(block)
            count -= len(block)
    except UnicodeDecodeError as error:
        return b"".join(blocks), error
    except read_errors() as error:
        return b"".join(blocks), error
    return b"".join(blocks), None


def last_line(buffer: bytes) -> int:
    """Where the last complete line ends; 0 without one."""
    return buffer.rfind(b"\n") + 1


def last_blank_line(buffer: bytes) -> int:
    """Where the last blank line ends; failing that, where the last complete line does."""
    window = len(buffer)
    while window > 0:
        window = max(0, window - 2**16)
        found = list(BLANK_LINE.finditer(buffer, max(0, window - 64)))
        if found:
            return found[-1].end()
    return last_line(buffer)


def _between_words(buffer: bytes, encoding: str) -> int:
    near = buffer.rfind(b" ", len(buffer) - 4096) + 1
    if near > 0:
        return near
    if encoding == "utf-8":  # without decoding it all: back over what may be the beginning of a character
        for back in range(1, 4):
            lead = buffer[-back]
            if lead >= 0xC0:
                return len(buffer) - back * (back < (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4))
            if lead < 0x80:
                break
        return len(buffer)
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    decoder.decode(buffer)
    return len(buffer) - len(decoder.getstate()[0])


def _as_one(raw: bytes, encoding: str, line: int, starts: bool, alone: bool) -> Iterator[Item]:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        bad = line + raw.count(b"\n", 0, error.start)
        if not alone:
            yield from _without_bad_lines(raw, encoding, line, starts)
            return
        guess = recognise(raw[max(0, error.start - 2**15) :])
        decoded = _try(raw, guess)
        if decoded is None:
            yield Reject(bad, f"not valid {encoding}", f"byte {error.start}: {excerpt(raw[error.start :])}")
            return
        yield Remark(f"not UTF-8, read as {guess}")
        text = decoded
    if not text.strip() or is_null(text):
        yield take(text, None, line)
    else:
        yield Document(text, starts, line=0 if alone else line)


def _without_bad_lines(raw: bytes, encoding: str, line: int, starts: bool) -> Iterator[Item]:
    good: list[str] = []
    for number, each in enumerate(raw.split(b"\n"), line):
        try:
            good.append(each.decode(encoding))
        except UnicodeDecodeError as error:
            yield Reject(number, f"not valid {encoding}", f"byte {error.start}: {excerpt(each)}")
    text = "\n".join(good)
    if text.strip():
        yield take(text, None, line) if is_null(text) else Document(text, starts, line=line)


def _by_line(raw: bytes, encoding: str, line: int) -> Iterator[Item]:
    for number, each in enumerate(raw.split(b"\n"), line + 1):
        each = each.removesuffix(b"\r")
        if each.strip():
            yield _decoded(each, encoding, number)


def _by_paragraph(raw: bytes, encoding: str, line: int) -> Iterator[Item]:
    number, start = line + 1, 0
    for found in [*BLANK_LINE.finditer(raw), None]:
        end = len(raw) if found is None else found.start()
        paragraph = raw[start:end]
        if paragraph.strip():
            yield _decoded(paragraph.strip(b"\r\n"), encoding, number)
        if found is not None:
            number += raw.count(b"\n", start, found.end())
            start = found.end()


def _decoded(raw: bytes, encoding: str, line: int) -> Document | Reject:
    try:
        return take(raw.decode(encoding), None, line)
    except UnicodeDecodeError as error:
        return Reject(line, f"not valid {encoding}", f"byte {error.start}: {excerpt(raw)}")


def _try(raw: bytes, encoding: str | None) -> str | None:
    if encoding is None or is_utf8(raw):
        return None
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def brief(error: Exception) -> str:
    """What is wrong with a JSON text. A `ValueError` of another kind is a number of thousands of digits."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else "number too long"
