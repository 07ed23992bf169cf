"""One way to bytes, wherever they lie: a local path, or an address that fsspec knows (s3://, https://, hdfs://, memory:// ...).

Addresses are opened by the file systems of fsspec with the credentials that these find (environment, configuration files).
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

_CHANGES = ("mtime", "LastModified", "last_modified", "ETag", "etag", "created", "updated", "modificationTime", "checksum")


class Stamp(NamedTuple):
    """What tells that a file has changed: its size (None when the server does not say) and a number for its state.

    The number: nanoseconds of the last change, or a hash of what a remote file system says of it.
    """

    size: int | None
    modified: int


def is_address(path: str) -> bool:
    """Whether this is an address for fsspec and not a local path."""
    return "://" in path


def open_raw(path: str) -> BinaryIO:
    """Open a file for reading its bytes as they are. Those of an address are fetched as they are read.

    Raises:
        OSError: whatever goes wrong, there and in reading. ValueError: the package for such addresses is not installed.
    """
    if not is_address(path):
        return open(path, "rb", buffering=1 << 20)
    system, inside = _system(path)
    with _as_os_error(path):
        file = system.open(inside, "rb")
        whole = _without_ranges(file)
        if whole:
            file.close()
            file = system.open(inside, "rb", block_size=0)
        return io.BufferedReader(_Remote(file, path, seekable=not whole), 1 << 20)  # type: ignore[return-value]


def _without_ranges(file: Any) -> bool:
    """Whether a server of HTTP only gives files as a whole: fsspec would notice after the first block, and stop there."""
    if not hasattr(file, "async_fetch_range"):
        return False
    try:
        file._fetch_range(1, 2)
    except ValueError:
        return True
    return False


def stamp(path: str) -> Stamp:
    """Size and state of a file.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    if not is_address(path):
        status = os.stat(path)
        return Stamp(status.st_size, status.st_mtime_ns)
    system, inside = _system(path)
    with _as_os_error(path):
        facts = system.info(inside)
    told = repr([(name, str(facts[name])) for name in _CHANGES if facts.get(name) is not None])
    return Stamp(facts.get("size"), int.from_bytes(hashlib.blake2b(told.encode(), digest_size=6).digest(), "little"))


def is_file(path: str) -> bool:
    """Whether a local path is a regular file: no folder, and nothing that never ends or waits, such as a device or a pipe."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # gone, a loop of links; a name that cannot be
        return False


def below(address: str) -> tuple[bool, list[tuple[str, str]]]:
    """The files behind an address: whether it is a folder, and (address, path inside the folder) of each, in sorted order.

    A file is itself. An address with * ? or [ is a pattern. What ends in / is a folder where it lists files: to HTTP the list of
    a folder is a page like any other.

    Raises:
        ValueError: nothing there, or it cannot be looked at.
    """
    system, root = _system(address)
    try:
        with _as_os_error(address):
            kind = _kind(system, root)
            if kind is None and glob.has_magic(root):
                matches = sorted(path for path in system.glob(root) if system.isfile(path))
                found = [path for path in matches if "/." in root or "/." not in path]
                return False, [(system.unstrip_protocol(path), path.rpartition("/")[2]) for path in found]
            if kind == "file" and address.endswith("/") and (listed := sorted(set(system.find(root)) - {root})):
                return True, [(system.unstrip_protocol(path), path[len(root) :].lstrip("/")) for path in listed]
            if kind == "file":
                return False, [(address, root.rstrip("/").rpartition("/")[2])]
            found = sorted(system.find(root)) if kind else []
    except OSError as error:
        raise ValueError(f"{address} cannot be reached: {error}") from error
    if not found:
        raise ValueError(f"no such file or folder: {address}")
    return True, [(system.unstrip_protocol(path), path[len(root) :].lstrip("/")) for path in found]


def is_page(address: str) -> bool:
    """Whether the server says that this is a web page, whatever its name."""
    try:
        system, inside = _system(address)
        with _as_os_error(address):
            return str(system.info(inside).get("mimetype") or "").startswith(("text/html", "application/xhtml"))
    except OSError:
        return False


def _kind(system: Any, path: str) -> str | None:
    """Is it a "file", a "directory" or nothing (None)? Other than `isfile` it tells a failure from an absence."""
    try:
        return str(system.info(path)["type"])
    except FileNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):  # fsspec's HTTP calls that not there, too
            raise cause from None
        return None


def _system(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(address)
    except ImportError as error:
        raise ValueError(f'{address}: {error}. Most are in the "remote" extra: pip install "genus[remote]"') from error


@contextmanager
def _as_os_error(path: str) -> Iterator[None]:
    """Every file system of fsspec has errors of its own (aiohttp's, botocore's ...): they become an `OSError`."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


class _Remote(io.RawIOBase):
    def __init__(self, file: Any, path: str, seekable: bool) -> None:
        self._file, self._path, self._seekable = file, path, seekable

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable and bool(self._file.seekable())

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _as_os_error(self._path):
            block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _as_os_error(self._path):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
