"""Records: rows with named columns, from any table or JSON file, whatever is wrong with some of them.

Columns are lists, a row is put together when it is asked for: a file of a million rows takes the room of its values.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

from genus.prepare.decode import as_utf8, guess_encoding, is_utf8, is_wide, open_binary, peek, read_errors
from genus.prepare.fields import holds_lines
from genus.prepare.items import ESCAPED, Reject, excerpt, has_surrogate, readable, shown
from genus.prepare.plain import PIECE_BYTES, RECORD_BYTES, chunks, last_line
from genus.prepare.row_lines import TableRows
from genus.prepare.sources import Source, listed
from genus.prepare.tables import arrow_rows, json_values, parquet_rows

Record = dict[str, Any]

STDIN = "-"
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "absent"})()
SHARED = 100_000  # different short strings that are kept once
SHORT = 40


class Entry(NamedTuple):
    """A row and where it stands, `file:line` (the row's number, in tables without lines)."""

    place: str
    record: Record


class Rejected(NamedTuple):
    """A row that could not be read: where it stands, why, how it begins, and what of it could be read."""

    place: str
    reason: str
    excerpt: str
    record: Record


class Rows(Sequence[Record]):
    """Rows kept by column."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}
        self.length = 0
        self._shared: dict[str, str] = {}

    def append(self, record: Record) -> None:
        for name in record:
            if name not in self.values:
                self.values[name] = [ABSENT] * self.length
        for name, column in self.values.items():
            column.append(self._keep(record.get(name, ABSENT)))
        self.length += 1

    def _keep(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) <= SHORT:
            if len(self._shared) < SHARED:
                return self._shared.setdefault(value, value)
            return self._shared.get(value, value)
        return value

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(index)
        return {name: column[index] for name, column in self.values.items() if column[index] is not ABSENT}


class Places(Sequence[str]):
    """Where rows stand, `file:line` each, kept as numbers."""

    def __init__(self) -> None:
        self.lines = array("q")
        self.files: list[str] = []
        self.begins: list[int] = []

    def append(self, place: str) -> None:
        name, _, line = place.rpartition(":")
        if not self.files or self.files[-1] != name:
            self.files.append(name)
            self.begins.append(len(self.lines))
        self.lines.append(int(line))

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return f"{self.files[bisect_right(self.begins, index) - 1]}:{self.lines[index]}"


@dataclass
class Records:
    """The rows of one or more files.

    Attributes:
        columns: names, in the order in which they were met. rows: one dict each. places: where each stands.
        rejected: what could not be read. remarks: what the user should know of the files. name: how messages call them.
    """

    columns: list[str] = field(default_factory=list)
    rows: Sequence[Record] = field(default_factory=Rows)
    places: Sequence[str] = field(default_factory=Places)
    rejected: list[Rejected] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    name: str = "the records"

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, numbers: Iterable[int]) -> list[Record]:
        """Some of the rows."""
        return [self.rows[i] for i in numbers]

    def renamed(self, names: Mapping[str, str]) -> Records:
        """The same rows with other names for some columns."""
        rows = Rows()
        for row in self.rows:
            rows.append({names.get(name, name): value for name, value in row.items()})
        columns = [names.get(name, name) for name in self.columns]
        return Records(columns, rows, self.places, self.rejected, self.remarks, self.name)

    @classmethod
    def of(cls, rows: Iterable[Record], name: str = "the records") -> Records:
        """Rows that are in memory."""
        return _collect((Entry(f"{name}:{i}", row) for i, row in enumerate(rows, 1)), name)


def read(path: str | Path) -> Records:
    """All rows of a file (or of a folder's files, whatever split they name).

    Formats: .jsonl .json .csv .tsv .txt (one text a line), with .gz or .zst; .parquet; .arrow; a Hugging Face datasets folder.
    `-` is standard input.

    Raises:
        ValueError: no such file, or none that can be read.
    """
    if str(path) == STDIN:
        return _collect(stream(path), "standard input")
    return _of_sources(_sources(path), str(path))


def read_splits(path: str | Path) -> dict[str, Records]:
    """Rows by split: "train", and "validation" and "test" where a folder names them."""
    if str(path) == STDIN or not Path(path).is_dir():
        return {"train": read(path)}
    found: dict[str, list[Source]] = {}
    for source in _sources(path):
        found.setdefault(source.split or "train", []).append(source)
    if "train" not in found:
        raise ValueError(f"{path} holds no training split, only {', '.join(found)}; name the file to learn from")
    names = {split: f"{path} ({split})" if len(found) > 1 else str(path) for split in found}
    return {split: _of_sources(sources, names[split]) for split, sources in found.items()}


def stream(path: str | Path) -> Iterator[Entry | Rejected]:
    """The rows of a file one by one, and those that could not be read, in order."""
    if str(path) == STDIN:
        yield from _standard_input(sys.stdin.buffer)
        return
    for source in _sources(path):
        yield from _entries(source)


def _collect(entries: Iterable[Entry | Rejected], name: str) -> Records:
    rows, places, rejected = Rows(), Places(), []
    columns: dict[str, None] = {}
    for entry in entries:
        if isinstance(entry, Rejected):
            rejected.append(entry)
            continue
        columns.update(dict.fromkeys(entry.record))
        rows.append(entry.record)
        places.append(entry.place)
    return Records(list(columns), rows, places, rejected, name=name)


def _of_sources(sources: Iterable[Source], name: str) -> Records:
    sources = list(sources)
    found = _collect((entry for source in sources for entry in _entries(source)), name)
    found.remarks += [
        f"{source.label} is not UTF-8 and was read as {source.encoding}; look whether its accents are right"
        for source in sources
        if not source.encoding.startswith(("utf", "binary"))
    ]
    return found


def _sources(path: str | Path) -> list[Source]:
    return [_surely(source) for source in listed(path)]


def _surely(source: Source) -> Source:
    """A file with lines of UTF-8 and some of another encoding is UTF-8: the others are told, instead of spoiling the rest."""
    if source.format in ("parquet", "arrow") or source.encoding.startswith(("utf", "binary")):
        return source
    lines = [line for line in peek(source.path, source.compression).split(b"\n")[:-1] if not line.isascii()]
    valid = sum(is_utf8(line) for line in lines)
    return replace(source, encoding="utf-8") if 2 * valid >= max(1, len(lines)) else source


def _entries(source: Source) -> Iterator[Entry | Rejected]:
    if source.format in ("parquet", "arrow"):
        for number, value in (parquet_rows if source.format == "parquet" else arrow_rows)(source.path):
            yield _entry(source.label, number, value)
        return
    if source.encoding == "binary":
        raise ValueError(f"{source.label} holds no text (it begins with bytes that no encoding explains)")
    with open_binary(source.path, source.compression) as file:
        yield from _text_entries(file, source.format, source.encoding, source.label)


def _text_entries(file: BinaryIO, kind: str, encoding: str, label: str) -> Iterator[Entry | Rejected]:
    if is_wide(encoding):
        file, encoding = as_utf8(file, encoding), "utf-8"
    reader = {"csv": _csv, "tsv": _csv, "json": _json, "jsonl": _json_lines, "text": _lines}[kind]
    last = 0
    try:
        for number, value in reader(file, encoding, kind):
            yield _entry(label, number, value)
            last = number
    except (UnicodeDecodeError, *read_errors()) as error:  # type: ignore[misc]
        yield Rejected(f"{label}:{last + 1}", "damaged file, rest not read", str(error)[:200], {})


def _entry(label: str, number: int, value: Any) -> Entry | Rejected:
    if isinstance(value, Reject):
        return Rejected(f"{label}:{number}", value.reason, value.excerpt, {})
    if isinstance(value, tuple):  # what could be read of a row that cannot be used
        reason, record = value
        return Rejected(f"{label}:{number}", reason, excerpt(", ".join(map(str, record.values()))), record)
    if not isinstance(value, dict):
        return Rejected(f"{label}:{number}", "not an object with named columns", shown(value), {"value": value})
    return Entry(f"{label}:{number}", value)


def _csv(file: BinaryIO, encoding: str, kind: str) -> Iterator[tuple[int, Any]]:
    rows = TableRows(file, encoding, kind)
    try:
        names = [each.strip() for each in rows.header()]
    except csv.Error as error:
        yield 1, Reject(1, "bad table row", str(error))
        return
    for line, cells in rows:
        if isinstance(cells, Reject):
            yield line, cells
            continue
        record = dict(zip(names, cells, strict=False))
        if len(cells) != len(names):
            extra = {f"column {i + 1}": cell for i, cell in enumerate(cells) if i >= len(names)}
            whole = {key: readable(cell) for key, cell in (record | extra).items()}
            yield line, (f"wrong number of columns: {len(cells)} instead of {len(names)}", whole)
        elif any(not cell.isascii() and has_surrogate(cell) for cell in cells):
            yield line, (f"not valid {encoding}", {key: readable(cell) for key, cell in record.items()})
        else:
            yield line, record


def _json_lines(file: BinaryIO, encoding: str, kind: str) -> Iterator[tuple[int, Any]]:
    line = 0
    for raw, _ in chunks(file, None, encoding, PIECE_BYTES, RECORD_BYTES, last_line):
        for each in raw.split(b"\n") if not raw.endswith(b"\n") else raw[:-1].split(b"\n"):
            line += 1
            if not each.strip():
                continue
            text = each.decode(encoding if line > 1 else encoding.replace("utf-8", "utf-8-sig"), "surrogateescape")
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                reason = (
                    f"bad JSON: {error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "bad JSON"
                )
                yield line, (reason, {"value": readable(text)})
            else:
                yield line, _sound(value, encoding)


def _json(file: BinaryIO, encoding: str, kind: str) -> Iterator[tuple[int, Any]]:
    for line, value in json_values(file, encoding):
        yield line, value if isinstance(value, Reject) else _sound(value, encoding)


def _sound(value: Any, encoding: str) -> Any:
    """A decoded JSON value; where some string of it is no text, the reason and what can be read of it."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
        elif isinstance(each, str) and not each.isascii() and has_surrogate(each):
            reason = f"not valid {encoding}" if ESCAPED.search(each) else "not valid Unicode"
            try:
                whole = _all_readable(value)
            except RecursionError:
                whole = shown(value)
            return reason, whole if isinstance(whole, dict) else {"value": whole}
    return value


def _all_readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {readable(name): _all_readable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_all_readable(each) for each in value]
    return readable(value) if isinstance(value, str) else value


def _lines(file: BinaryIO, encoding: str, kind: str) -> Iterator[tuple[int, Any]]:
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    for line, text in enumerate(io.TextIOWrapper(file, encoding=name, errors="surrogateescape"), 1):
        text = text.rstrip("\n")
        if has_surrogate(text):
            yield line, (f"not valid {encoding}", {"text": readable(text)})
        elif text.strip():
            yield line, {"text": text}


def _standard_input(file: BinaryIO) -> Iterator[Entry | Rejected]:
    """JSON lines, a JSON array or a table: told from how the text begins."""
    buffered: Any = file if hasattr(file, "peek") else io.BufferedReader(file, 1 << 16)  # type: ignore[type-var]
    start = buffered.peek(1 << 16)
    encoding = guess_encoding(start)
    head = start.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        kind = "json"
    elif head.startswith("{"):
        kind = "jsonl" if holds_lines(start, encoding) or "\n" not in head.strip() else "json"
    else:
        first = head.split("\n", 1)[0]
        kind = "tsv" if "\t" in first else "csv" if "," in first or first.strip() in ("text", "sentence") else "text"
    yield from _text_entries(buffered, kind, encoding, "stdin")  # type: ignore[arg-type]
