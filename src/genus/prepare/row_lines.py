"""The rows of a CSV or TSV, and its lines, of bounded length."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from genus.prepare.fields import dialect
from genus.prepare.items import Reject
from genus.prepare.plain import RECORD_BYTES


class RowLines:
    """The lines of a table's text, for `csv.reader`; `number` counts them.

    A row of more than `most` characters ends in a `csv.Error`, and reading goes on behind its line: otherwise a line without an
    end would fill the memory, and so would a quotation mark that is never closed. `begin` says that a row begins.
    """

    def __init__(self, text: io.TextIOBase, most: int) -> None:
        self._text, self._most, self._taken = text, most, 0
        self.number = 0

    def begin(self) -> int:
        """Returns the number of the line that the row begins in."""
        self._taken = 0
        return self.number + 1

    def __iter__(self) -> RowLines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._most)
        if not line:
            raise StopIteration
        self.number += 1
        self._taken += len(line)
        if self._taken >= self._most:
            while line and not line.endswith(("\n", "\r")):
                line = self._text.readline(1 << 20)
            raise csv.Error(f"row longer than {self._most >> 20} MB")
        return line.replace("\0", "\ufffd")


class TableRows:
    """(line, cells) of every row that is not blank, or (line, Reject) of one that cannot be read; lines count from 1.

    Bytes that are not of the encoding become lone surrogates, so that one bad cell costs one row and not the file.
    """

    def __init__(self, file: BinaryIO, encoding: str, kind: str) -> None:
        csv.field_size_limit(RECORD_BYTES)
        name = "utf-8-sig" if encoding == "utf-8" else encoding
        self._lines = RowLines(io.TextIOWrapper(file, encoding=name, errors="surrogateescape", newline=""), RECORD_BYTES)
        self._rows = csv.reader(self._lines, **dialect(kind))

    @property
    def number(self) -> int:
        """Lines read so far."""
        return self._lines.number

    def header(self) -> list[str]:
        """The next row, which names the columns; empty where there is none.

        Raises:
            csv.Error: it cannot be read.
        """
        return next(self._rows, [])

    def __iter__(self) -> Iterator[tuple[int, list[str] | Reject]]:
        while True:
            line = self._lines.begin()
            try:
                cells = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, Reject(line, "bad table row", str(error))
                continue
            if cells:
                yield line, cells
