"""Bytes to text: compression, encodings, and what to do when the bytes are not what they claim."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from functools import partial
from typing import Any, BinaryIO, Literal

from genus.prepare.limits import Budget, metered
from genus.prepare.opening import open_raw, stamp

Compression = Literal["gz", "zst", "bz2", "xz"]

PEEK_BYTES = 64 * 1024

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What a text that is not UTF-8 may be; without a list the guess drifts to code pages of mainframes.
_CANDIDATES = [
    *("cp1252", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255"),
    *("cp1256", "koi8_r", "iso8859_2", "utf_16_le", "utf_16_be"),
]


def open_binary(path: str, compression: Compression | None) -> BinaryIO:
    """Open a file, here or at an address, for reading its uncompressed bytes.

    Raises:
        OSError: whatever goes wrong with the file, there and in reading; `limits.Excess` when it unpacks to too much.
        ValueError: the package that its compression or its address needs is not installed.
    """
    if compression is None:
        return open_raw(path)
    return unpack(open_raw(path), compression, Budget(stamp(path).size), path)


def unpack(file: BinaryIO, compression: Compression, budget: Budget, name: str) -> BinaryIO:
    """The uncompressed bytes of a stream, which pay into `budget`. Closing closes both."""
    return metered(_Closing(_decompressor(file, compression, name), file), budget)  # type: ignore[arg-type]


def _decompressor(file: BinaryIO, compression: Compression, name: str) -> Any:
    if compression == "gz":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if compression == "bz2":
        return bz2.BZ2File(file, "rb")
    if compression == "xz":
        return lzma.LZMAFile(file, "rb")
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise ValueError(f'{name}: reading .zst needs the "data" extra: pip install "genus[data]"') from error
    return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)


class _Closing:
    """A decompressor that closes what it reads from, which those of the standard library leave open."""

    def __init__(self, inner: Any, file: BinaryIO) -> None:
        self._inner, self._file = inner, file
        self.read1 = inner.read1

    def close(self) -> None:
        self._inner.close()
        self._file.close()


def peek(path: str, compression: Compression | None) -> bytes:
    """The first 64 KiB, uncompressed; fewer when not even those can be read (the reader will report why)."""
    start = b""
    try:
        with open_binary(path, compression) as file:
            while len(start) < PEEK_BYTES and (block := file.read1(PEEK_BYTES - len(start))):  # type: ignore[attr-defined]
                start += block
    except PermissionError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except read_errors():
        pass
    return start


def read_errors() -> tuple[type[Exception], ...]:
    """What reading a damaged file may raise, whichever its compression."""
    try:
        from zstandard import ZstdError
    except ModuleNotFoundError:
        return (OSError, EOFError, zlib.error, lzma.LZMAError)
    return (OSError, EOFError, zlib.error, lzma.LZMAError, ZstdError)


def guess_encoding(start: bytes) -> str:
    """The encoding that the first bytes speak for; "utf-8" when nothing better is known, "binary" for what is no text at all."""
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    if is_utf8(start):
        return "binary" if b"\0" in start and _is_mostly_control(start) else "utf-8"
    guess = recognise(start)
    if guess:
        return guess
    return "binary" if b"\0" in start else "utf-8"


def is_utf8(start: bytes) -> bool:
    """Whether bytes, perhaps cut inside a character, are UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def recognise(sample: bytes) -> str | None:
    """Ask charset-normalizer (extra `data`) what these bytes are; None when it is absent or unsure."""
    try:
        from charset_normalizer import from_bytes
    except ModuleNotFoundError:
        return None
    best = from_bytes(sample[:PEEK_BYTES], cp_isolation=_CANDIDATES, threshold=0.1).best()
    return None if best is None else best.encoding


def is_wide(encoding: str) -> bool:
    """Whether a line end of this encoding is more than the byte 0x0A, so that bytes cannot be cut there."""
    return encoding.startswith(("utf-16", "utf-32", "utf_16", "utf_32"))


def as_utf8(file: BinaryIO, encoding: str) -> BinaryIO:
    """A stream of UTF-8 bytes from a stream in a wide encoding. Undecodable input raises `UnicodeDecodeError` when reached."""
    return io.BufferedReader(_Transcoded(file, encoding), 1 << 20)  # type: ignore[arg-type,return-value]


class _Transcoded(io.RawIOBase):
    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._blocks = iter(partial(file.read, 1 << 16), b"")
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._left = b""
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            block = next(self._blocks, None)
            text = self._decoder.decode(block or b"", final=block is None)
            self._left = text.encode("utf-8", "surrogatepass")
            if block is None and not self._left:
                return 0
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _is_mostly_control(start: bytes) -> bool:
    return sum(byte < 9 or 13 < byte < 32 for byte in start) > len(start) // 20
