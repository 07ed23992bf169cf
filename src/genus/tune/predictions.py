"""The file that predictions are written to: the rows that were read, with new columns."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from genus.prepare.records import STDIN, Entry, Record, stream
from genus.tune.labeller import ERROR

OUTPUTS = (".jsonl", ".csv", ".tsv")


class Writer:
    """Writes rows as JSON lines or as a table whose columns are known from the start."""

    def __init__(self, target: TextIO, kind: str, added: Sequence[str], file: str | Path, rows: Sequence[Record]) -> None:
        self.target, self.kind = target, kind
        columns = _columns(file, rows) if kind != ".jsonl" else list(dict.fromkeys(name for row in rows for name in row))
        self.added = added
        self.free = {name: _free(name, columns) for name in (*self.added, ERROR)}
        self.columns = [*columns, *self.free.values()]
        if kind != ".jsonl":
            self._line(self.columns)

    def write(self, row: Record, added: Record) -> None:
        told = {name: added.get(name) for name in (*self.added, ERROR)}
        if self.kind == ".jsonl":
            # Rows of JSON need not have the same columns: one that was not met before keeps its value too.
            free = {name: _free(name, row) if own in row else own for name, own in self.free.items()}
            whole = row | {free[name]: value for name, value in told.items()}
            self.target.write(json.dumps(whole, ensure_ascii=False, default=str) + "\n")
            return
        whole = row | {self.free[name]: value for name, value in told.items()}
        strange = {name: value for name, value in row.items() if name not in self.columns or name in self.free.values()}
        if strange:  # without a column, as in a row that could not be read: kept, as text, beside the reason
            lost = json.dumps(strange, ensure_ascii=False, default=str)
            whole[self.free[ERROR]] = f"{added.get(ERROR) or 'not in the columns'}: {lost}"
        self._line([_cell(whole.get(name)) for name in self.columns])

    def _line(self, cells: Sequence[str]) -> None:
        if self.kind == ".csv":
            csv.writer(self.target, lineterminator="\n").writerow(cells)
        else:  # without quotes, as it is read
            self.target.write("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in cells) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _columns(file: str | Path, rows: Sequence[Record]) -> list[str]:
    """All columns of a file: a second look at it, since rows of JSON need not have the same."""
    if str(file) == STDIN:
        return list(dict.fromkeys(name for row in rows for name in row))
    found: dict[str, None] = {}
    for entry in stream(file):
        if isinstance(entry, Entry):
            found.update(dict.fromkeys(entry.record))
    return list(found)


def _free(name: str, columns: Collection[str]) -> str:
    """The name of a new column that takes no old one's place."""
    number, free = 1, name
    while free in columns:
        number += 1
        free = f"{name} {number}"
    return free


def kind_of(out: str | Path | None) -> str:
    return ".jsonl" if out is None else Path(str(out).removesuffix(".gz")).suffix.lower()


def check(file: str | Path, out: str | Path | None) -> None:
    if out is not None and str(file) != STDIN and Path(out).resolve() == Path(file).resolve():
        raise ValueError(f"{out} is the file that is read, and would be written over; choose another -o")
    if kind_of(out) not in OUTPUTS:
        raise ValueError(f"{out}: predictions are written as {', '.join(OUTPUTS)} (also .gz)")
    if kind_of(out) == ".tsv" and ".tsv" not in Path(str(file)).suffixes:
        raise ValueError(f"{out}: a .tsv cannot hold texts with tabs and line ends, as {file} may have; choose .csv or .jsonl")


@contextmanager
def opened(out: str | Path | None) -> Iterator[TextIO]:
    """A file that takes its place when it is complete; standard output for None."""
    if out is None:
        yield sys.stdout
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    stream_: Any = gzip.open(temporary, "wb") if path.suffix == ".gz" else open(temporary, "wb")  # noqa: SIM115 (closed with the text around it)
    try:
        with io.TextIOWrapper(stream_, encoding="utf-8", newline="") as target:
            yield target
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)
