"""What reading a source gives: documents, rejected records, and how many lines there were."""

from __future__ import annotations

from typing import Any, NamedTuple

EXCERPT = 200


class Document(NamedTuple):
    """One document's text. `starts` is false for the later pieces of a file too large to be one document."""

    text: str
    starts: bool = True


class Reject(NamedTuple):
    """A record that cannot be used. `line` counts from 1 inside the part read (rows, for tables); 0 means the file as a whole."""

    line: int
    reason: str
    excerpt: str = ""


class Remark(NamedTuple):
    """Something the user should know about a file that was used all the same."""

    text: str


class Lines(NamedTuple):
    """How many lines (or rows) the part had: the last item, so that line numbers of later parts of the file can be told."""

    number: int


Item = Document | Reject | Remark | Lines


def take(value: Any, name: str | int | None, line: int) -> Document | Reject:
    """The document in a record's text field, or why there is none."""
    if isinstance(value, str):
        if not value.strip():
            return Reject(line, "empty document")
        if not value.isascii() and has_surrogate(value):
            return Reject(line, "not valid Unicode", excerpt(value))
        return Document(value)
    if value is None:
        return Reject(line, "empty document")
    return Reject(line, f"field {name!r} is not text", excerpt(repr(value)))


def has_surrogate(text: str) -> bool:
    """Whether a string holds half of a surrogate pair, which no encoding of Unicode can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def excerpt(raw: str | bytes) -> str:
    """The beginning of a rejected record, safe to write anywhere."""
    text = raw[: 4 * EXCERPT].decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return text[:EXCERPT].encode("utf-8", "replace").decode()
