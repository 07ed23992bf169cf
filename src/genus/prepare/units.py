"""Cut the sources into units of work: what one process reads at a time, and what a restart need not repeat.

Units depend on the files only, never on the number of workers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from genus.prepare.decode import is_wide, open_binary, read_errors
from genus.prepare.items import Item, Reject
from genus.prepare.limits import Budget, Excess, seekable
from genus.prepare.opening import is_address
from genus.prepare.plain import BLANK_LINE, PIECE_BYTES
from genus.prepare.read_pairs import read_lines_beside
from genus.prepare.readers import TABLE, read_stream
from genus.prepare.readers.archive import zip_weights
from genus.prepare.readers.job import Job
from genus.prepare.sources import Source, stamp_of
from genus.prepare.tables import DAMAGE

SMALLEST_UNIT, LARGEST_UNIT = 4 * 2**20, 64 * 2**20


@dataclass(frozen=True)
class Part:
    """A stretch of a source: bytes start .. stop - 1 (row groups of Parquet, members of a zip); stop = None reads to the end.

    `beside`: where the same line begins in the file of the translations.
    """

    source: int
    start: int = 0
    stop: int | None = None
    beside: int = 0


def cut(sources: Sequence[Source], mode: str) -> list[list[Part]]:
    """Units of about total / 64 bytes, between 4 and 64 MB: large files are cut at line borders, small ones put together."""
    size = min(LARGEST_UNIT, max(SMALLEST_UNIT, sum(source.size for source in sources) // 64))
    units: list[list[Part]] = []
    filled = size
    for index, source in enumerate(sources):
        for part, weight in _parts(index, source, mode, size):
            if not units or filled + weight > size:
                units.append([])
                filled = 0
            units[-1].append(part)
            filled += weight
    return units


def read(source: Source, part: Part, mode: str) -> Iterator[Item]:
    """Everything in one part of a source. Whatever is wrong with the file becomes a `Reject`.

    Raises:
        ValueError: two files of pairs are not aligned, or a package is not installed.
    """
    try:
        unchanged = not source.modified or stamp_of(source) == (source.size, source.modified)
    except OSError as error:
        yield Reject(0, "gone before it was read", str(error)[:200])
        return
    if not unchanged:
        yield Reject(0, "changed after it was listed, not read", "run the command again")
        return
    try:
        if source.beside is not None:
            yield from read_lines_beside(source, part.start, part.stop, part.beside)
            return
        with open_binary(source.path, source.compression) as file:
            yield from read_stream(file, _job(source, part, mode, file))
    except UnicodeDecodeError as error:
        yield Reject(0, f"not valid {source.encoding}, rest of the file not read", str(error)[:200])
    except read_errors() as error:
        reason = error.reason if isinstance(error, Excess) else "damaged file, rest not read"
        yield Reject(0, reason, str(error)[:200])


def _job(source: Source, part: Part, mode: str, file: BinaryIO) -> Job:
    lines = TABLE[source.format].cut == "lines"
    length = None
    if lines and not source.compression and not is_wide(source.encoding) and (part.stop is not None or source.size):
        length = (source.size if part.stop is None else part.stop) - part.start
    if lines and part.start:
        file.seek(part.start)
    return Job(
        source.format,
        source.path,
        mode,
        source.encoding,
        source.field,
        source.source_field,
        part.start,
        part.stop,
        length,
        last=part.stop is None,
        size=source.size or None,
        path=None if source.compression or is_address(source.path) else source.path,
        budget=Budget(source.size or None),
    )


def _parts(index: int, source: Source, mode: str, size: int) -> Iterator[tuple[Part, int]]:
    cut = TABLE[source.format].cut
    if source.beside is not None:
        yield from _aligned(index, source, size)
    elif cut == "row groups":
        yield from _row_groups(index, source, size)
    elif cut == "members" and source.size > size:
        yield from _members(index, source, size)
    elif cut == "lines" and _can_be_cut(source, mode, size):
        borders = [0, *_borders(source, mode, size), None]
        for start, stop in pairwise(borders):
            assert start is not None
            yield Part(index, start, stop), (source.size if stop is None else stop) - start
    else:
        yield Part(index), source.size


def _can_be_cut(source: Source, mode: str, size: int) -> bool:
    if source.compression or is_address(source.path) or is_wide(source.encoding) or source.encoding == "binary":
        return False
    # A file that is one document stays one document, up to the size of a piece.
    return source.size > (max(size, 1.5 * PIECE_BYTES) if source.format == "text" and mode == "file" else size)


def _borders(source: Source, mode: str, size: int) -> Iterator[int]:
    """Line ends near every multiple of `size`. A place without one close by (a file that is one line) is no border."""
    border = BLANK_LINE if mode == "blank-line" and source.format == "text" else re.compile(rb"\n")
    if source.format == "text" and mode == "file":
        size = max(size, PIECE_BYTES)
    with open(source.path, "rb") as file:
        for near in range(size, source.size - size // 2, size):
            file.seek(near)
            found = border.search(file.read(PIECE_BYTES))
            if found and found.end() < min(size, source.size - near):
                yield near + found.end()


def _aligned(index: int, source: Source, size: int) -> Iterator[tuple[Part, int]]:
    """Line-aligned files, cut where the same number of lines has gone by in both."""
    assert source.beside is not None
    whole = source.compression or is_wide(source.encoding) or is_address(source.path) or is_address(source.beside)
    length = 0 if whole else Path(source.path).stat().st_size
    if length <= size:
        yield Part(index), source.size
        return
    begin = beside = 0
    with open(source.path, "rb") as file, open(source.beside, "rb") as other:
        while block := file.read(size):
            block += file.readline()
            lines = block.count(b"\n")
            last = file.tell() >= length
            yield Part(index, begin, None if last else file.tell(), beside), len(block)
            if last:
                return
            begin = file.tell()
            for _ in range(lines):
                other.readline()
            beside = other.tell()


def _row_groups(index: int, source: Source, size: int) -> Iterator[tuple[Part, int]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with open_binary(source.path, source.compression) as file:
            metadata = parquet.read_metadata(seekable(file))
    except (pa.ArrowException, *DAMAGE):
        yield Part(index, 0, 0), source.size  # the reader reports the damage
        return
    yield from _ranges(index, [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)], size)


def _members(index: int, source: Source, size: int) -> Iterator[tuple[Part, int]]:
    weights = None
    try:
        with open_binary(source.path, source.compression) as file:
            if file.seekable():
                weights = zip_weights(file)
    except read_errors():
        pass  # the reader reports the damage
    if weights:
        yield from _ranges(index, weights, size)
    else:
        yield Part(index), source.size


def _ranges(index: int, weights: Sequence[int], size: int) -> Iterator[tuple[Part, int]]:
    """Things that follow one another, put together until they weigh `size`."""
    start = weight = 0
    for i, each in enumerate(weights):
        weight += each
        if weight >= size or i == len(weights) - 1:
            yield Part(index, start, i + 1), weight
            start, weight = i + 1, 0
