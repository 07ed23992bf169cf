"""Read pairs of texts: two columns of a table, or the lines of two files side by side."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from genus.prepare.decode import Compression, as_utf8, guess_encoding, is_wide, open_binary, peek
from genus.prepare.items import Item, Lines, Pair, Reject, excerpt, has_surrogate, pair_from_record, take_pair
from genus.prepare.plain import RECORD_BYTES
from genus.prepare.readers import COMPRESSIONS
from genus.prepare.row_lines import TableRows

if TYPE_CHECKING:
    from genus.prepare.sources import Source


def read_pairs_csv(file: BinaryIO, encoding: str, kind: str, fields: Pair) -> Iterator[Item]:
    """Pairs of a CSV or TSV. Integer fields are columns (from 0) of a table without a header line."""
    rows = TableRows(file, encoding, kind)
    columns: list[int | None] = [fields[0], fields[1]]
    if isinstance(fields[0], str):
        try:
            header = rows.header()
        except csv.Error:
            header = []
        columns = [header.index(field) if field in header else None for field in fields]
    for line, row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        sides = [None if column is None or column >= len(row) else row[column] for column in columns]
        broken = next((side for side in sides if side is not None and has_surrogate(side)), None)
        if broken is not None:
            yield Reject(line, f"not valid {encoding}", excerpt(broken))
        else:
            yield take_pair(sides[0], sides[1], fields, line)
    yield Lines(rows.number)


def read_lines_beside(source: Source, start: int, stop: int | None, beside: int) -> Iterator[Item]:
    """Line n of one file with line n of the other.

    Args:
        start, stop: bytes of the first file; None = to the end. beside: where the same line begins in the second.

    Raises:
        ValueError: one file has more lines than the other.
    """
    assert source.beside is not None
    number = 0
    names = (Path(source.path).name, Path(source.beside).name)
    compression = compression_of(source.beside)
    with open_binary(source.path, source.compression) as file, open_binary(source.beside, compression) as other:
        if start:  # never in what is compressed, which cannot be sought in
            file.seek(start)
            other.seek(beside)
        encodings = source.encoding, guess_encoding(peek(source.beside, compression))
        streams = [_bytes(stream, encoding) for stream, encoding in zip((file, other), encodings, strict=True)]
        left = None if stop is None else stop - start
        while left is None or left > 0:
            raw = [stream.readline(RECORD_BYTES) for stream in streams]
            if left is not None:
                left -= len(raw[0])
            if not all(raw):
                if any(_more(each, stream) for each, stream in zip(raw, streams, strict=True)):
                    shorter = names[0] if raw[1] else names[1]
                    raise ValueError(
                        f"{names[0]} and {names[1]} are not line-aligned: {shorter} ends first, after {number:,} lines of this "
                        "part; align them (one sentence per line in both, empty lines kept) and prepare them again"
                    )
                break
            number += 1
            sides = []
            for each, encoding, name in zip(raw, encodings, names, strict=True):
                try:
                    sides.append(each.decode("utf-8" if is_wide(encoding) else encoding).removeprefix("\ufeff"))
                except UnicodeDecodeError as error:
                    yield Reject(number, f"not valid {encoding}", f"{name}, byte {error.start}: {excerpt(each)}")
                    break
            if len(sides) == 2 and (sides[0].strip() or sides[1].strip()):  # a line that is empty in both says nothing
                yield take_pair(sides[0], sides[1], names, number)
    yield Lines(number)


def read_pairs_rows(rows: Iterator[tuple[int, Any]], fields: Pair) -> Iterator[Item]:
    """Pairs of the rows of a Parquet or Arrow file: two columns, or two entries of its column `translation`."""
    number = 0
    for number, row in rows:
        match row:
            case Reject():
                yield row
            case (reason, whole):
                yield Reject(number, reason, excerpt(", ".join(map(str, whole.values()))))
            case _:
                yield pair_from_record(row, fields, number)
    yield Lines(number)


def compression_of(path: str) -> Compression | None:
    """As the suffix says."""
    return COMPRESSIONS.get(Path(path).suffix.lower())


def _bytes(stream: BinaryIO, encoding: str) -> BinaryIO:
    return as_utf8(stream, encoding) if is_wide(encoding) else stream


def _more(line: bytes, stream: BinaryIO) -> bool:
    """Whether anything but empty lines is left of a file."""
    return bool(line.strip()) or any(bool(each.strip()) for each in stream)
