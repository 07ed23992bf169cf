"""What reading a source gives: documents, rejected records, and how many lines there were."""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

EXCERPT = 200
ESCAPED = re.compile("[\udc80-\udcff]")
"""Bytes that were no text, as `surrogateescape` keeps them."""


class Document(NamedTuple):
    """One document's text. `starts` is false for the later pieces of a file too large to be one document.

    `source`: what it is a translation of, where documents come in pairs.
    `line`: where it begins, from 1 inside the part read (rows, for tables); 0 means the file as a whole.
    `name`: of a member of an archive, a page, a file of a tree. `language`: as the source says (programming languages too).
    """

    text: str
    starts: bool = True
    source: str | None = None
    line: int = 0
    name: str | None = None
    language: str | None = None

    @property
    def digest(self) -> bytes:
        """128-bit hash of the text, or of the pair."""
        whole = self.text if self.source is None else f"{len(self.source)} {self.source}{self.text}"
        return hashlib.blake2b(whole.encode(), digest_size=16).digest()


class Reject(NamedTuple):
    """A record that cannot be used. `line` counts from 1 inside the part read (rows, for tables); 0 means the file as a whole.

    `name`: of the member of an archive or the page, as in `Document`.
    """

    line: int
    reason: str
    excerpt: str = ""
    name: str | None = None


class Remark(NamedTuple):
    """Something the user should know about a file that was used all the same."""

    text: str


class Lines(NamedTuple):
    """How many lines (or rows) the part had: the last item, so that line numbers of later parts of the file can be told."""

    number: int


Item = Document | Reject | Remark | Lines
Pair = tuple[Any, Any]
"""The fields of the source and of the target: names, or columns (from 0) of a table without a header line."""

TRANSLATION = "translation"
"""The field in which Hugging Face data sets keep {"de": ..., "en": ...}."""


def take(value: Any, name: str | int | None, line: int) -> Document | Reject:
    """The document in a record's text field, or why there is none."""
    if isinstance(value, str):
        if not value.strip():
            return Reject(line, "empty document")
        if not value.isascii() and has_surrogate(value):
            return Reject(line, "not valid Unicode", excerpt(value))
        if is_null(value):
            return Reject(line, "null bytes", excerpt(value))
        return Document(value, line=line)
    if value is None:
        return Reject(line, "empty document")
    return Reject(line, f"field {name!r} is not text", shown(value))


def take_pair(source: Any, target: Any, fields: Pair, line: int) -> Document | Reject:
    """The pair of a record's two fields, or why there is none. White space around a side is not part of it."""
    texts = []
    for value, other, name in ((source, target, fields[0]), (target, source, fields[1])):
        if value is None:
            return Reject(line, "missing side", excerpt(f"no {name!r} beside {other!r}"))
        if not isinstance(value, str):
            return Reject(line, f"field {name!r} is not text", shown(value))
        if not value.strip():
            return Reject(line, "empty side", excerpt(f"empty {name!r} beside {other!r}"))
        if not value.isascii() and has_surrogate(value):
            return Reject(line, "not valid Unicode", excerpt(value))
        texts.append(value.strip())
    return Document(texts[1], source=texts[0], line=line)


def pair_from_record(record: object, fields: Pair, line: int) -> Document | Reject:
    """The pair in a decoded JSON value: an object with both fields, itself or in its `translation`."""
    if not isinstance(record, dict):
        return Reject(line, "not a JSON object", shown(record))
    inner = record.get(TRANSLATION)
    if isinstance(inner, dict) and not (fields[0] in record and fields[1] in record):
        record = inner
    return take_pair(record.get(fields[0]), record.get(fields[1]), fields, line)


def has_surrogate(text: str) -> bool:
    """Whether a string holds half of a surrogate pair, which no encoding of Unicode can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def is_null(text: str) -> bool:
    """Whether one character of a hundred or more is U+0000, as in what is no text, or text of another encoding."""
    return "\0" in text and 100 * text.count("\0") > len(text)


def shown(value: Any) -> str:
    """The beginning of a value that is no text."""
    try:
        return excerpt(repr(value))
    except RecursionError:
        return "nested too deeply"


def excerpt(raw: str | bytes) -> str:
    """The beginning of a rejected record, safe to write anywhere."""
    text = raw[: 4 * EXCERPT].decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else readable(raw[:EXCERPT])
    return text[:EXCERPT]


def readable(text: str) -> str:
    r"""A text that can be written anywhere: a byte that was none stands there as \xff, half of a surrogate pair as \ud83d."""
    if not has_surrogate(text):
        return text
    return ESCAPED.sub(lambda found: rf"\x{ord(found[0]) & 0xFF:02x}", text).encode("utf-8", "backslashreplace").decode()
