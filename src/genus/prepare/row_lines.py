"""Lines for a reader of tables, of bounded length."""

from __future__ import annotations

import csv
import io


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
