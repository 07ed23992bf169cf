"""E-mail: a message (.eml) or a mailbox (.mbox), by the standard library. Subject and text; attachments are left aside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import policy
from email.parser import BytesParser
from typing import Any, BinaryIO

from genus.prepare.items import Document, Item, Lines, Reject, excerpt, take
from genus.prepare.limits import DOCUMENT_BYTES, PAGE_BYTES, whole
from genus.prepare.readers.job import Job

_SEPARATOR = b"From "
_QUOTED = re.compile(rb"^>(>*From )", re.M)


def read_message(file: BinaryIO, job: Job) -> Iterator[Item]:
    """One message."""
    yield _document(whole(file), 0)
    yield Lines(0)


def read_mailbox(file: BinaryIO, job: Job) -> Iterator[Item]:
    """All messages of a mailbox (RFC 4155: each begins with a line `From ...` behind an empty one)."""
    message: list[bytes] = []
    line = begins = size = 0
    empty = True
    while each := file.readline(1 << 20):
        line += each.endswith(b"\n")
        if empty and each.startswith(_SEPARATOR):
            if begins:
                yield _message(message, size, begins)
            message, begins, size = [], max(line, 1), 0
        elif begins:
            size += len(each)
            if size <= DOCUMENT_BYTES:
                message.append(each)
        empty = not each.strip()
    if begins:
        yield _message(message, size, begins)
    elif line:
        yield Reject(0, "no mailbox", "no line begins with 'From '")
    yield Lines(line)


def _message(lines: list[bytes], size: int, line: int) -> Document | Reject:
    if size > DOCUMENT_BYTES:
        return Reject(line, "document too large", f"{size:,} bytes")
    return _document(_QUOTED.sub(rb"\1", b"".join(lines)), line)


def _document(raw: bytes, line: int) -> Document | Reject:
    try:
        message = BytesParser(policy=policy.default).parsebytes(raw)
        body = message.get_body(("plain", "html"))
        text = _text(body)
        subject, name = (str(message[header] or "").strip() for header in ("Subject", "Message-ID"))
    except Exception as error:  # what people and spammers send breaks the parser in many ways
        return Reject(line, "message that cannot be parsed", f"{type(error).__name__}: {excerpt(str(error))}")
    whole_text = "\n\n".join(part for part in (subject, text.strip()) if part).encode("utf-8", "replace").decode()
    item = take(whole_text, None, line)
    return item._replace(name=excerpt(name)) if name else item


def _text(body: Any) -> str:
    if body is None:
        return ""
    text = str(body.get_content())
    if body.get_content_subtype() != "html":
        return text.replace("\r\n", "\n")
    from lxml import html

    page = html.fromstring(text[:PAGE_BYTES])
    for unseen in page.xpath("//script | //style | //head | //comment()"):
        unseen.drop_tree()
    return "\n".join(each.strip() for each in page.itertext() if each.strip())
