"""Cut the sources into units of work: what one process reads at a time, and what a restart need not repeat.

Units depend on the files only, never on the number of workers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from genus.prepare.decode import as_utf8, is_wide, open_binary, read_errors
from genus.prepare.items import Item, Lines, Pair, Reject
from genus.prepare.plain import BLANK_LINE, PIECE_BYTES, read_json_lines, read_text
from genus.prepare.read_pairs import read_lines_beside, read_pairs_csv, read_pairs_rows
from genus.prepare.sources import Source
from genus.prepare.tables import arrow_rows, parquet_rows, read_arrow, read_csv, read_json, read_parquet

SMALLEST_UNIT, LARGEST_UNIT = 4 * 2**20, 64 * 2**20


@dataclass(frozen=True)
class Part:
    """A stretch of a source: bytes start .. stop - 1 (row groups, for Parquet); stop = None reads to the end.

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
            if filled + weight > size:
                units.append([])
                filled = 0
            units[-1].append(part)
            filled += weight
    return units


def read(source: Source, part: Part, mode: str) -> Iterator[Item]:
    """Everything in one part of a source. A damaged file ends with a `Reject`; it raises nothing."""
    if source.format == "parquet" and not source.paired:
        yield from read_parquet(source.path, part.start, part.stop or 0, str(source.field))
        return
    if source.format == "parquet":
        yield from read_pairs_rows(parquet_rows(source.path, part.start, part.stop or 0), _fields(source))
        return
    if source.format == "arrow" and source.paired:
        yield from read_pairs_rows(arrow_rows(source.path), _fields(source))
        return
    if source.format == "arrow":
        yield from read_arrow(source.path, str(source.field))
        return
    if source.encoding == "binary":
        yield Reject(0, "not text")
        yield Lines(0)
        return
    try:
        if source.beside is not None:
            yield from read_lines_beside(source, part.start, part.stop, part.beside)
            return
        with open_binary(source.path, source.compression) as file:
            if part.start:
                file.seek(part.start)
            yield from _read_open(source, part, mode, file)
    except UnicodeDecodeError as error:
        yield Reject(0, f"not valid {source.encoding}, rest of the file not read", str(error)[:200])
    except read_errors() as error:
        yield Reject(0, "damaged file, rest not read", str(error)[:200])


def _read_open(source: Source, part: Part, mode: str, file: object) -> Iterator[Item]:
    encoding = source.encoding
    stream = file
    if is_wide(encoding):
        stream, encoding = as_utf8(file, encoding), "utf-8"  # type: ignore[arg-type]
    stop = source.size if part.stop is None and stream is file and not source.compression else part.stop
    length = None if stop is None else stop - part.start
    if source.format == "text":
        first, last = part.start == 0, part.stop is None
        yield from read_text(stream, length, encoding, mode, first, last)  # type: ignore[arg-type]
    elif source.format == "jsonl":
        yield from read_json_lines(stream, length, encoding, _record(source))  # type: ignore[arg-type]
    elif source.format == "json":
        yield from read_json(stream, encoding, _record(source))  # type: ignore[arg-type]
    elif source.source_field is not None:
        yield from read_pairs_csv(stream, encoding, source.format, _fields(source))  # type: ignore[arg-type]
    else:
        assert source.field is not None
        yield from read_csv(stream, encoding, source.format, source.field)  # type: ignore[arg-type]


def _fields(source: Source) -> Pair:
    return source.source_field, source.field


def _record(source: Source) -> str | Pair:
    """The field of a JSON record, or the two."""
    return str(source.field) if source.source_field is None else _fields(source)


def _parts(index: int, source: Source, mode: str, size: int) -> Iterator[tuple[Part, int]]:
    if source.format == "parquet":
        yield from _row_groups(index, source, size)
    elif source.beside is not None:
        yield from _aligned(index, source, size)
    elif _can_be_cut(source, mode, size):
        borders = [0, *_borders(source, mode, size), None]
        for start, stop in pairwise(borders):
            assert start is not None
            yield Part(index, start, stop), (source.size if stop is None else stop) - start
    else:
        yield Part(index), source.size


def _can_be_cut(source: Source, mode: str, size: int) -> bool:
    if source.compression or source.format not in ("text", "jsonl") or is_wide(source.encoding) or source.encoding == "binary":
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
    length = Path(source.path).stat().st_size
    if source.compression or is_wide(source.encoding) or length <= size:
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
        metadata = parquet.read_metadata(source.path)
    except (pa.ArrowException, OSError):
        yield Part(index, 0, 0), source.size  # the reader reports the damage
        return
    start = weight = 0
    for group in range(metadata.num_row_groups):
        weight += metadata.row_group(group).total_byte_size
        if weight >= size or group == metadata.num_row_groups - 1:
            yield Part(index, start, group + 1), weight
            start, weight = group + 1, 0
