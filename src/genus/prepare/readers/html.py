"""Web pages: the main text, without navigation, advertisements and comments, as trafilatura finds it (Barbaresi 2021)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import BinaryIO

from genus.prepare.items import Document, Item, Lines, Reject, excerpt, take
from genus.prepare.limits import PAGE_BYTES, whole
from genus.prepare.readers.job import Job

TAGS = 100_000
"""A page of more elements takes minutes; real ones have some thousands."""


def read(file: BinaryIO, job: Job) -> Iterator[Item]:
    """One page, one document."""
    yield main_text(whole(file, PAGE_BYTES), 0)
    yield Lines(0)


def main_text(page: bytes, line: int, name: str | None = None) -> Document | Reject:
    """The main text of a page, in the encoding that the page names or that is guessed.

    Args:
        line, name: where the page stands, for the document and the account.
    """
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it complains of every page without a text
    if page.count(b"<") > TAGS:
        return Reject(line, "page too large", f"more than {TAGS:,} elements", name)
    if not page.strip(b"\0 \t\r\n"):
        return Reject(line, "empty document", "", name)
    try:
        text = trafilatura.extract(page, include_comments=False, include_tables=True)
    except Exception as error:  # whatever a parser meets in the wild: lxml's errors, RecursionError, ...
        return Reject(line, "page that cannot be parsed", f"{type(error).__name__}: {excerpt(str(error))}", name)
    if not text:
        return Reject(line, "no main text", excerpt(page), name)
    return take(text, None, line)._replace(name=name)
