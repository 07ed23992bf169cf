"""Which field of a record holds the text: as the user says, or guessed and told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from genus.prepare.decode import peek
from genus.prepare.limits import seekable
from genus.prepare.opening import is_address, open_raw
from genus.prepare.readers import TABLE

if TYPE_CHECKING:
    from genus.prepare.sources import Source

USUAL = (
    "text",
    "content",
    "contents",
    "document",
    "body",
    "article",
    "story",
    "sentence",
    "passage",
    "review",
    "raw_content",
    "markdown",
    "paragraph",
    "abstract",
)
"""Field names tried in this order when `--field` is not given."""


def choose_field(sources: Sequence[Source], asked: str | None, remarks: list[str]) -> list[Source]:
    """Fill in `field` of every source that has records.

    Raises:
        ValueError: no file has the field asked for, or none can be guessed; the message lists the fields present.
    """
    chosen: list[Source] = []
    missing: dict[str, list[str]] = {}
    for source in sources:
        if not TABLE[source.format].fields or source.encoding == "binary":
            # What an archive holds is known when it is read.
            chosen.append(replace(source, field=asked) if TABLE[source.format].archive else source)
            continue
        if asked is not None and asked.isdigit() and source.format in ("csv", "tsv"):
            chosen.append(replace(source, field=int(asked) - 1))
            continue
        present = fields_of(source)
        name = _pick(present, asked)
        if name is None and present:
            missing[source.label] = list(present)
        # A file without the field is read all the same: its records go to quarantine one by one.
        chosen.append(replace(source, field=name or asked or USUAL[0]))
    _report(chosen, missing, asked, remarks)
    return chosen


def fields_of(source: Source) -> dict[str, bool]:
    """Names of a source's fields, in order, and whether the first record holds text there. Empty when no record can be read."""
    if not TABLE[source.format].encoded:
        if not is_address(source.path):
            return table_fields(source.path, source.format)
        try:
            with open_raw(source.path) as file:
                return table_fields(seekable(file), source.format)
        except OSError:
            return {}
    return text_fields(peek(source.path, source.compression), source.format, source.encoding)


def table_fields(where: str | BinaryIO, kind: str) -> dict[str, bool]:
    """As `fields_of`, of a Parquet or Arrow file that is open or lies at a local path."""
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as parquet

        try:
            return _from_schema(parquet.read_schema(where))
        except (pa.ArrowException, OSError, ValueError):
            return {}
    from genus.prepare.tables import arrow_schema

    schema = arrow_schema(where)
    return {} if schema is None else _from_schema(schema)


def text_fields(start: bytes, kind: str, encoding: str) -> dict[str, bool]:
    """As `fields_of`, of a file of encoded records that begins like this."""
    text = start.decode(encoding, "replace").removeprefix("\ufeff")
    if kind in ("csv", "tsv"):
        rows = csv.reader(io.StringIO(text.replace("\0", "\ufffd"), newline=""), **dialect(kind))
        try:
            header = next(rows, [])
            first = next(rows, header)
        except csv.Error:
            return {}
        return {name: not _is_number(value) for name, value in zip(header, [*first, *[""] * len(header)], strict=False)}
    record = _first_record(text)
    return {name: isinstance(value, str) for name, value in record.items()}


def field_of(present: dict[str, bool], kind: str, asked: str | int | None) -> str | int | None:
    """The field that holds the text among those present: as asked, or as guessed; None when it cannot be told."""
    if isinstance(asked, str) and asked.isdigit() and kind in ("csv", "tsv"):
        return int(asked) - 1
    return _pick(present, None if asked is None else str(asked))


def holds_lines(start: bytes, encoding: str) -> bool:
    """Whether a `.json` file that begins like this has one complete record per line, as many do."""
    lines = start.decode(encoding if encoding != "binary" else "utf-8", "replace").removeprefix("\ufeff").split("\n", 1)
    try:
        return len(lines) == 2 and isinstance(json.loads(lines[0]), dict)
    except (ValueError, RecursionError):
        return False


def dialect(kind: str) -> dict[str, Any]:
    """How tables are written: commas with quotes; tabs without (a quotation mark is then a letter like any other)."""
    return {"delimiter": ","} if kind == "csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}


def _from_schema(schema: Any) -> dict[str, bool]:
    import pyarrow as pa

    return {column.name: pa.types.is_string(column.type) or pa.types.is_large_string(column.type) for column in schema}


def _first_record(text: str) -> dict[str, Any]:
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            record, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("\n{", start + 1)
            start += start >= 0
            continue
        return record
    return {}


def _pick(present: dict[str, bool], asked: str | None) -> str | None:
    if asked is not None:
        return asked if asked in present else None
    for name in USUAL:
        if present.get(name):
            return name
    with_text = [name for name, is_text in present.items() if is_text]
    return with_text[0] if len(with_text) == 1 else None


def _report(chosen: list[Source], missing: dict[str, list[str]], asked: str | None, remarks: list[str]) -> None:
    with_records = [source for source in chosen if TABLE[source.format].fields and source.encoding != "binary"]
    if missing and (asked is None or len(missing) == len(with_records)):
        label, present = next(iter(missing.items()))
        known = ", ".join(present)
        wrong = f"no field {asked!r} in {label}" if asked is not None else f"cannot tell which field of {label} holds the text"
        hint = "; for a table without a header line give the column's number, as in --field 2" if label.endswith(_TABLES) else ""
        raise ValueError(f"{wrong}; fields present: {known}. Name one with --field{hint}")
    if asked is not None:
        remarks.extend(f"{label}: no field {asked!r}; fields present: {', '.join(present)}" for label, present in missing.items())
        return
    guessed: dict[str, list[str]] = {}
    for source in with_records:
        guessed.setdefault(str(source.field), []).append(source.label)
    if guessed:
        told = (f"{name} ({files[0]}{f' and {len(files) - 1:,} more' if files[1:] else ''})" for name, files in guessed.items())
        remarks.append(f"text field guessed: {', '.join(told if len(guessed) > 1 else guessed)} (--field NAME chooses another)")


_TABLES = tuple(table + packed for table in (".csv", ".tsv") for packed in ("", ".gz", ".zst", ".bz2", ".xz"))


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return value == ""
    return True
