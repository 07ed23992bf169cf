"""Archives: every member is read as the file it would be, in one go, and nothing is written to disk under a member's name.

All layers and members of an archive pay from one budget (`limits.Budget`), so that what unpacks to far more than it is ends.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import BinaryIO

from genus.prepare.decode import PEEK_BYTES, guess_encoding, read_errors, unpack
from genus.prepare.fields import field_of, holds_lines, table_fields, text_fields
from genus.prepare.items import EXCERPT, Document, Item, Lines, Reject, Remark
from genus.prepare.limits import DEPTH, HEADER_BYTES, LISTING_BYTES, Budget, Excess, metered, seekable
from genus.prepare.readers import TABLE, kind_of, missing_package, read_stream, suffix_of
from genus.prepare.readers.job import Job

_BLOCK = 512
_DAMAGE = (zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError, ValueError, OverflowError, IndexError)
"""What `zipfile` raises at a damaged or unusual archive, besides the errors of reading."""


def read_zip(file: BinaryIO, job: Job) -> Iterator[Item]:
    """Members start .. stop - 1 of a zip archive."""
    members = _Members(job)
    try:
        archive = zipfile.ZipFile(_Bounded(file))
    except _DAMAGE as error:
        yield Reject(0, "damaged file, rest not read", str(error)[:200])
        yield Lines(0)
        return
    listing = archive.infolist()[job.start : job.stop]
    if not job.depth:
        members.budget = Budget(min(job.size or 0, sum(member.compress_size for member in listing)))
    for member in listing:
        if member.is_dir():
            continue
        name = clean(member.filename)
        if member.flag_bits & 1:
            yield Reject(0, "encrypted", "", name)
            continue
        try:
            with archive.open(member) as stream:
                yield from members.read(name, stream)  # type: ignore[arg-type]
        except Excess as error:
            yield Reject(0, error.reason, str(error), name)
            break
        except NotImplementedError as error:
            yield Reject(0, "unknown compression", str(error)[:200], name)
        except (*_DAMAGE, *read_errors()) as error:  # type: ignore[misc]
            yield Reject(0, "damaged member of an archive", str(error)[:200], name)
    yield from members.end()


def zip_weights(file: BinaryIO) -> list[int] | None:
    """Packed bytes of every member, to divide the work; None when the list cannot be trusted (the members overlap, say)."""
    try:
        with zipfile.ZipFile(_Bounded(file)) as archive:
            weights = [member.compress_size for member in archive.infolist()]
    except (*_DAMAGE, *read_errors()):  # type: ignore[misc]
        return None
    return weights if sum(weights) <= file.seek(0, io.SEEK_END) else None


def read_tar(file: BinaryIO, job: Job) -> Iterator[Item]:
    """The members of a tar archive, as they come.

    Headers are read here and parsed by `tarfile`, which in reading them itself takes any length that a header claims into memory.
    """
    members = _Members(job)
    long_name: str | None = None
    long_size: int | None = None
    while True:
        header = _exactly(file, _BLOCK)
        if not header.strip(b"\0"):
            break
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            yield Reject(0, "damaged file, rest not read", str(error)[:200])
            break
        size = member.size if long_size is None else long_size
        if size < 0:
            yield Reject(0, "damaged file, rest not read", "a member of negative size")
            break
        name = clean(long_name if long_name is not None else member.name)
        if member.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            if member.size > HEADER_BYTES:
                yield Reject(0, "damaged file, rest not read", f"a header of {member.size:,} bytes")
                break
            facts = _exactly(file, member.size)
            _skip(file, -member.size % _BLOCK)
            if member.type == tarfile.GNUTYPE_LONGNAME:
                long_name = facts.rstrip(b"\0").decode("utf-8", "replace")
            else:
                long_name, long_size = _extended(facts, long_name)
            continue
        long_name = long_size = None
        content = _Slice(file, size)
        if member.isreg() and not member.issparse():
            try:
                yield from members.read(name, io.BufferedReader(content, 1 << 16))  # type: ignore[arg-type]
            except Excess as error:
                yield Reject(0, error.reason, str(error), name)
                break
        elif not (member.isdir() or member.type == tarfile.XGLTYPE):
            members.aside["links and devices"] += 1
        if not _skip(file, content.left + -size % _BLOCK):
            yield Reject(0, "damaged file, rest not read", "it ends inside a member", name)
            break
    yield from members.end()


def clean(name: str) -> str:
    """A member's name as it may be written: it is only ever shown. Of a long one the end is kept, which tells the format."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name[-EXCERPT:])
    return shown if len(name) <= EXCERPT else f"\u2026{shown[1:]}"


class _Members:
    """Reads members and counts those that cannot be read as text."""

    def __init__(self, job: Job) -> None:
        self.job, self.budget = job, job.budget
        self.aside: Counter[str] = Counter()

    def read(self, name: str, packed: BinaryIO) -> Iterator[Item]:
        """What a member holds, every item with its name.

        Raises:
            Excess: the archive has unpacked to too much, and no further member may be read.
        """
        kind = kind_of(name)[0]
        nested = kind is not None and TABLE[kind].archive
        for item in self._items(name, metered(packed, self.budget, PEEK_BYTES)):
            if isinstance(item, Document | Reject):
                own = item.name if nested or item.name != name else None
                yield item._replace(name=f"{name}/{own}" if own else name)
            elif isinstance(item, Remark):
                yield Remark(f"{name}: {item.text}")
        if self.budget.spent > self.budget.limit:
            raise Excess("archive given up, rest not read", f"{self.budget.limit:,} bytes have been unpacked")

    def _items(self, name: str, file: BinaryIO) -> Iterator[Item]:
        path = PurePosixPath(name)
        kind, compression = kind_of(name)
        if kind is None or path.name.startswith((".", "._")) or "__MACOSX" in path.parts:
            self.aside[suffix_of(name) or "without suffix"] += 1
            return
        if missing := missing_package(kind):
            self.aside[f"{suffix_of(name)} ({missing})"] += 1
            return
        if compression:
            file = unpack(file, compression, self.budget, name)
        entry = TABLE[kind]
        if entry.archive and self.job.depth + 1 >= DEPTH:
            yield Reject(0, "archives nested too deeply")
            return
        job = replace(self.job, format=kind, name=name, start=0, stop=None, length=None, last=True, size=None, path=None)
        job = replace(job, depth=self.job.depth + entry.archive, budget=self.budget)
        try:
            if entry.seeks:
                file = seekable(file)
            if entry.encoded:
                start = file.peek(PEEK_BYTES)[:PEEK_BYTES]  # type: ignore[attr-defined]
                encoding = guess_encoding(start)
                if kind == "json" and holds_lines(start, encoding):
                    kind = "jsonl"
                job = replace(job, format=kind, encoding=encoding)
        except read_errors() as error:
            yield Reject(0, error.reason if isinstance(error, Excess) else "damaged member of an archive", str(error)[:200])
            return
        if entry.fields and job.encoding != "binary":
            present = text_fields(start, kind, job.encoding) if entry.encoded else table_fields(file, kind)
            field = field_of(present, kind, self.job.field)
            if field is None:
                yield Reject(0, "no text field", f"fields present: {', '.join(present)}"[:200])
                return
            if not entry.encoded:
                file.seek(0)
            job = replace(job, field=field)
        yield from read_stream(file, job)

    def end(self) -> Iterator[Item]:
        """What was left aside, and the end. Lines are counted within members, so the archive has none."""
        if self.aside:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.aside.items()))
            yield Remark(f"members left aside: {kinds}")
        yield Lines(0)


class _Bounded(io.RawIOBase):
    """A file for `zipfile`, which reads the whole list of members at once: not more than may be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        if size is None or size < 0 or size > LISTING_BYTES:
            block = self._file.read(LISTING_BYTES + 1)
            if len(block) > LISTING_BYTES:
                raise Excess("too many members in an archive", f"their list is longer than {LISTING_BYTES:,} bytes")
            return block
        return self._file.read(size)


class _Slice(io.RawIOBase):
    """The next `left` bytes of a stream."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file, self.left = file, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._file.read(min(len(buffer), self.left))
        if not block and self.left:
            raise EOFError("the archive ends inside a member")
        self.left -= len(block)
        buffer[: len(block)] = block
        return len(block)


def _exactly(file: BinaryIO, size: int) -> bytes:
    """So many bytes, fewer at the end of the file."""
    blocks = []
    while size and (block := file.read(size)):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _skip(file: BinaryIO, size: int) -> bool:
    while size > 0:
        block = file.read(min(size, 1 << 20))
        if not block:
            return False
        size -= len(block)
    return True


def _extended(facts: bytes, name: str | None) -> tuple[str | None, int | None]:
    """Name and size in a pax header: lines of `length key=value`."""
    size, at = None, 0
    while (space := facts.find(b" ", at, at + 10)) > 0 and facts[at:space].isdigit():
        end = at + int(facts[at:space])
        if not space < end <= len(facts):
            break
        key, _, value = facts[space + 1 : end].rstrip(b"\n").partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "replace")
        elif key == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
        at = end
    return name, size
