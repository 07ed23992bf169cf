"""Web archives: the pages of a crawl (WARC, .warc and .warc.gz, also ARC), and texts extracted before (WET)."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any, BinaryIO

from genus.prepare.items import Document, Item, Lines, Reject, Remark, excerpt, take
from genus.prepare.limits import HEADER_BYTES, PAGE_BYTES, Excess
from genus.prepare.readers.html import main_text
from genus.prepare.readers.job import Job

_PAGES = ("text/html", "application/xhtml+xml")


def read(file: BinaryIO, job: Job) -> Iterator[Item]:
    """The main text of every page that was delivered, the text of every plain one. `line` is the number of the record."""
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    rationed = _Rationed(file)
    records = ArchiveIterator(rationed)
    aside: Counter[str] = Counter()
    number = 0
    while True:
        rationed.left = HEADER_BYTES
        try:
            with redirect_stderr(io.StringIO()):  # it prints its complaints
                record = next(records)
        except StopIteration:
            break
        except (Excess, ArchiveLoadFailed, ValueError, AttributeError, IndexError, KeyError, TypeError) as error:
            reason = error.reason if isinstance(error, Excess) else "damaged file, rest not read"
            yield Reject(number + 1, reason, excerpt(str(error)))
            break
        number += 1
        rationed.left = None
        item = _document(record, number)
        if isinstance(item, str):
            aside[item] += 1
        else:
            yield item
        while record.raw_stream.read(1 << 16):
            pass
    if aside:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(aside.items()))
        yield Remark(f"records without a text left aside: {kinds}")
    yield Lines(number)


def _document(record: Any, number: int) -> Document | Reject | str:
    """The document of a record, why it is none, or the kind of record that holds none."""
    if record.rec_type not in ("response", "resource", "conversion"):
        return str(record.rec_type)
    address = record.rec_headers.get_header("WARC-Target-URI") or record.rec_headers.get_header("uri")
    name = excerpt(address) if address else None
    told = record.http_headers.get_header("Content-Type") if record.http_headers else record.content_type
    kind = (told or "").partition(";")[0].strip().lower()
    if kind not in _PAGES and kind != "text/plain":
        return kind[:80] or "of unknown type"
    status = record.http_headers.get_statuscode() if record.http_headers else "200"
    if status != "200":
        return f"HTTP {excerpt(status)[:20]}"
    try:
        content = _content(record)
    except Excess as error:
        return Reject(number, error.reason, str(error), name)
    except Exception as error:  # broken chunks, wrong compression
        return Reject(number, "page that cannot be unpacked", excerpt(str(error)), name)
    if kind in _PAGES:
        return main_text(content, number, name)
    try:
        return take(content.decode(), None, number)._replace(name=name)
    except UnicodeDecodeError as error:
        return Reject(number, "not valid utf-8", f"byte {error.start}: {excerpt(content[error.start :])}", name)


def _content(record: Any) -> bytes:
    blocks, left, stream = [], PAGE_BYTES + 1, record.content_stream()
    while left > 0 and (block := stream.read(min(left, 1 << 16))):
        blocks.append(block)
        left -= len(block)
    if left <= 0:
        raise Excess("page too large", f"more than {PAGE_BYTES:,} bytes")
    return b"".join(blocks)


class _Rationed:
    """A stream of which at most `left` bytes may be read (None = any number): a header without an end would fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._offset = file, 0
        self.left: int | None = None

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._offset += len(block)
        if self.left is not None:
            self.left -= len(block)
            if self.left < 0:
                raise Excess("damaged file, rest not read", f"a header of more than {HEADER_BYTES:,} bytes")
        return block

    def tell(self) -> int:
        return self._offset
