"""PDF: the text of all pages, one document per file. Pictures of text (scans) hold none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from genus.prepare.items import Document, Item, Lines, Reject, excerpt, take
from genus.prepare.limits import DOCUMENT_BYTES, Excess
from genus.prepare.readers.job import Job

PAGES = 20_000
"""A file may have so many."""

_HYPHEN = re.compile("(?<=\\w)[\x02\ufffe\xad]\\s*")  # where PDFium sees a word divided at the end of a line


def read(file: BinaryIO, job: Job) -> Iterator[Item]:
    """All pages, parted by a blank line."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(job.path or file)
    except (pypdfium2.PdfiumError, OSError, ValueError, TypeError) as error:
        encrypted = "password" in str(error).lower() or "security" in str(error).lower()
        yield Reject(0, "encrypted" if encrypted else "PDF that cannot be parsed", excerpt(str(error)))
        yield Lines(0)
        return
    try:
        text = "\n\n".join(_pages(document))
    except (pypdfium2.PdfiumError, OSError, ValueError) as error:
        reason = error.reason if isinstance(error, Excess) else "PDF that cannot be parsed"
        yield Reject(0, reason, excerpt(str(error)))
    else:
        item = take(text, None, 0)
        pages = f"{len(document)} page{'s' * (len(document) != 1)}; perhaps a scan"
        yield item if isinstance(item, Document) else Reject(0, "no text in the PDF", pages)
    finally:
        document.close()
    yield Lines(0)


def _pages(document: Any) -> Iterator[str]:
    if len(document) > PAGES:
        raise Excess("document too large", f"more than {PAGES:,} pages")
    size = 0
    for page in document:
        content = page.get_textpage()
        text = content.get_text_bounded()
        content.close()
        page.close()
        size += len(text)
        if size > DOCUMENT_BYTES:
            raise Excess("document too large", f"more than {DOCUMENT_BYTES:,} characters")
        text = _HYPHEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).encode("utf-8", "replace").decode()
        if text.strip():
            yield text.strip()
