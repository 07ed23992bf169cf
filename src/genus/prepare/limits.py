"""What a hostile file may cost: the bounds, and how they are kept.

Text is read in pieces, so its length needs no bound. What unpacks to much more than it is does,
and so does what can only be read as a whole.
"""

from __future__ import annotations

import io
import tempfile
from typing import BinaryIO

RATIO = 200
"""Times its size that a file may unpack to. Text that repeats itself reaches 20 to 50; gzip allows 1,032, others far more."""
FREE_BYTES = 64 * 2**20
"""What every file may unpack to, however small it is."""
UNKNOWN_BYTES = 2**36
"""What a file whose size no one tells may unpack to."""
DOCUMENT_BYTES = 64 * 2**20
"""A file that is read as a whole (a PDF, an office document, an e-mail) may be this large."""
PAGE_BYTES = 8 * 2**20
"""So may a web page, whose main text is searched for in all of it."""
DEPTH = 4
"""Archives inside archives."""
HEADER_BYTES = 2**20
"""Names and other facts of one member or record."""
LISTING_BYTES = 64 * 2**20
"""The list of members at the end of a zip: about a million."""
IN_MEMORY = 8 * 2**20
"""What of a file that must be read back and forth is kept in memory; more lies in an unnamed temporary file."""


class Excess(OSError):
    """A file that goes beyond a bound: reading it stops there.

    `reason`: short and stable, for the account. An `OSError`, as any damage that reading meets.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class Budget:
    """Bytes that one file may still unpack to, over all its layers and members together."""

    def __init__(self, size: int | None) -> None:
        self.limit = UNKNOWN_BYTES if size is None else max(FREE_BYTES, RATIO * size)
        self.spent = 0

    def spend(self, count: int) -> None:
        """Account for bytes that were unpacked.

        Raises:
            Excess: they are too many.
        """
        self.spent += count
        if self.spent > self.limit:
            raise Excess("unpacks to too much, rest not read", f"more than {self.limit:,} bytes, {RATIO} times what is packed")


class Metered(io.RawIOBase):
    """A stream whose bytes are paid for. It is read in small steps (`read1`), so that damage costs nothing before it."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file, self._budget = file, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._file.read1(len(buffer))  # type: ignore[attr-defined]
        self._budget.spend(len(block))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()


def metered(file: BinaryIO, budget: Budget, buffer: int = 1 << 20) -> BinaryIO:
    """A buffered stream whose bytes are paid for."""
    return io.BufferedReader(Metered(file, budget), buffer)  # type: ignore[return-value]


def whole(file: BinaryIO, most: int = DOCUMENT_BYTES) -> bytes:
    """Everything in a stream.

    Raises:
        Excess: that is more than `most` bytes.
    """
    blocks, left = [], most + 1
    while left and (block := file.read(min(left, 1 << 20))):
        blocks.append(block)
        left -= len(block)
    if not left:
        raise Excess("document too large", f"more than {most:,} bytes")
    return b"".join(blocks)


def seekable(file: BinaryIO) -> BinaryIO:
    """The stream itself when it can be read back and forth, else its bytes in an unnamed temporary file.

    Where the bytes come from an archive they have been paid for, so the file's size is bounded.
    """
    if file.seekable():
        return file
    copy = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (closed with the last reference)
    while block := file.read(1 << 20):
        copy.write(block)
    copy.seek(0)
    return copy  # type: ignore[return-value]
