"""Read tables: CSV and TSV, JSON arrays, Parquet, and the Arrow files of Hugging Face `datasets`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from genus.prepare.items import Item, Lines, Pair, Reject, excerpt, has_surrogate, take
from genus.prepare.plain import RECORD_BYTES, brief, from_record
from genus.prepare.row_lines import TableRows

ROWS_AT_ONCE = 256
STEP = 2**16
"""Characters of JSON that are read at a time: so many are lost before damage."""
DAMAGE = (OSError, ValueError, MemoryError)
"""What pyarrow raises at a damaged file, besides errors of its own."""


def read_csv(file: BinaryIO, encoding: str, kind: str, field: str | int) -> Iterator[Item]:
    """Documents of a CSV or TSV: one column. An integer field is a column (from 0) of a table without a header line."""
    rows = TableRows(file, encoding, kind)
    column, width = (field, None) if isinstance(field, int) else _header(rows, field)
    for line, row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        if column is None:
            yield Reject(line, f"no field {field!r}", excerpt(repr(row)))
        elif column >= len(row) or (width is not None and len(row) > width):
            yield Reject(line, "wrong number of columns", excerpt(repr(row)))
        elif has_surrogate(row[column]):
            yield Reject(line, f"not valid {encoding}", excerpt(row[column]))
        else:
            yield take(row[column], field, line)
    yield Lines(rows.number)


def _header(rows: TableRows, field: str) -> tuple[int | None, int]:
    try:
        names = rows.header()
    except csv.Error:
        names = []
    return (names.index(field) if field in names else None), len(names)


def read_json(file: BinaryIO, encoding: str, field: str | Pair) -> Iterator[Item]:
    """Documents of a JSON file: an array of objects or strings, or one object."""
    line = 1
    for line, value in json_values(file, encoding):
        yield value if isinstance(value, Reject) else from_record(value, field, line)
    yield Lines(line)


def json_values(file: BinaryIO, encoding: str) -> Iterator[tuple[int, Any]]:
    """The values of a JSON array, or the one value of the file, each with its line, decoded one by one from a moving window.

    The last may be a `Reject`: after what is not JSON, the rest of the file is not read.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig" if encoding == "utf-8" else encoding, errors="surrogateescape")
    decoder = json.JSONDecoder()
    window, line, inside = text.read(STEP), 1, False
    at = 0
    while True:
        while at < len(window) and (window[at].isspace() or window[at] == "," or (window[at] == "[" and not inside)):
            line += window[at] == "\n"
            inside = inside or window[at] == "["
            at += 1
        if at == len(window):
            window, at = text.read(STEP), 0
            if not window:
                return
            continue
        if window[at] == "]" and inside:
            return
        try:
            record, end = decoder.raw_decode(window, at)
        except (ValueError, RecursionError) as error:
            more = text.read(max(STEP, len(window) - at)) if len(window) - at < RECORD_BYTES else ""
            if more:
                window, at = window[at:] + more, 0
                continue
            message = brief(error)
            yield line, Reject(line, "bad JSON, rest of the file not read", f"{message}: {excerpt(window[at : at + 400])}")
            return
        yield line, record
        line += window.count("\n", at, end)
        at = end


def read_parquet(path: str | BinaryIO, start: int, stop: int | None, field: str) -> Iterator[Item]:
    """Documents of row groups start .. stop - 1 of a Parquet file; stop = None reads to the end."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            groups = list(range(start, file.metadata.num_row_groups if stop is None else stop))
            if field not in file.schema_arrow.names:
                rows = sum(file.metadata.row_group(group).num_rows for group in groups)
                yield Reject(0, f"no field {field!r}", f"{rows} rows; fields present: {', '.join(file.schema_arrow.names)}")
                return
            batches = file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[field], use_threads=False)
            for batch in batches:
                yield from _column(batch.column(0), field, row)
                row += batch.num_rows
    except (pa.ArrowException, *DAMAGE) as error:
        yield Reject(row + 1, "damaged file, rest not read", str(error)[:200])
    yield Lines(row)


def read_arrow(path: str | BinaryIO, field: str) -> Iterator[Item]:
    """Documents of an Arrow file as `datasets.save_to_disk` writes it (stream format; the file format is read too)."""
    import pyarrow as pa

    row = 0
    try:
        with _source(path) as file:
            for batch in _batches(file):
                if field not in batch.schema.names:
                    yield Reject(0, f"no field {field!r}", f"fields present: {', '.join(batch.schema.names)}")
                    return
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield from _column(batch.column(field).slice(start, ROWS_AT_ONCE), field, row + start)
                row += batch.num_rows
    except (pa.ArrowException, *DAMAGE) as error:
        yield Reject(row + 1, "damaged file, rest not read", str(error)[:200])
    yield Lines(row)


def parquet_rows(path: str | BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Any]]:
    """Every row of a Parquet file, or of its row groups start .. stop - 1, with its number from 1: a dict, a `Reject`, or
    the reason against a row and what can be read of it."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            groups = list(range(start, file.metadata.num_row_groups if stop is None else stop))
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, use_threads=False):
                yield from _rows(batch, row)
                row += batch.num_rows
    except (pa.ArrowException, *DAMAGE) as error:
        yield row + 1, Reject(row + 1, "damaged file, rest not read", str(error)[:200])


def arrow_rows(path: str | BinaryIO) -> Iterator[tuple[int, Any]]:
    """Every row of an Arrow file, as `parquet_rows`."""
    import pyarrow as pa

    row = 0
    try:
        with _source(path) as file:
            for batch in _batches(file):
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield from _rows(batch.slice(start, ROWS_AT_ONCE), row + start)
                row += batch.num_rows
    except (pa.ArrowException, *DAMAGE) as error:
        yield row + 1, Reject(row + 1, "damaged file, rest not read", str(error)[:200])


def _rows(batch: Any, before: int) -> Iterator[tuple[int, Any]]:
    names = _class_names(batch.schema)
    try:
        for number, row in enumerate(batch.to_pylist(), before + 1):
            yield number, _named(row, names)
    except UnicodeDecodeError:  # some cell of the batch: find it
        for i in range(batch.num_rows):
            try:
                yield before + i + 1, _named(batch.slice(i, 1).to_pylist()[0], names)
            except UnicodeDecodeError:
                row = {name: _told(batch.column(name)[i]) for name in batch.schema.names}
                yield before + i + 1, ("not valid utf-8", _named(row, names))


def _told(scalar: Any) -> Any:
    """The value of a cell, in which bytes that are no text stand as in `readable`."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if hasattr(scalar, "as_buffer"):
            return scalar.as_buffer().to_pybytes().decode(errors="backslashreplace")
        if hasattr(scalar, "values") and not callable(scalar.values):
            return [_told(each) for each in scalar.values]
        return {name: _told(each) for name, each in scalar.items()}


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Names of the classes that columns hold as numbers, as the `datasets` library notes them in its files."""
    note = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(note)["info"]["features"] if note else {}
    except (ValueError, KeyError, TypeError):
        return {}
    found = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            found[name] = [str(each) for each in inner["names"]]
    return found


def _named(row: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    """The row with class names for class numbers; -1 is `datasets`' word for no class."""

    def name(value: Any, among: list[str]) -> Any:
        if isinstance(value, list):
            return [name(each, among) for each in value]
        return among[value] if isinstance(value, int) and 0 <= value < len(among) else None

    return row | {column: name(row[column], among) for column, among in names.items() if column in row}


def arrow_schema(path: str | BinaryIO) -> Any:
    """The schema of an Arrow file; None when it is damaged."""
    import pyarrow as pa

    try:
        with _source(path) as file:
            return _open(file).schema
    except (pa.ArrowException, *DAMAGE):
        return None


def _source(path: str | BinaryIO) -> Any:
    """Read, not mapped: a mapped file that is cut short meanwhile ends the process."""
    import pyarrow as pa

    return pa.OSFile(path) if isinstance(path, str) else pa.PythonFile(path, mode="r")


def _open(file: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(file)
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_file(file)


def _batches(file: Any) -> Iterator[Any]:
    reader = _open(file)
    batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if hasattr(reader, "num_record_batches") else reader
    for batch in batches:
        for column in batch.columns:
            _check(column)
        yield batch


def _check(column: Any) -> None:
    """Arrow believes the offsets in a file; false ones lead out of its memory. Bad UTF-8 is told row by row, later."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.binary() if pa.types.is_string(kind) else pa.large_binary())
    column.validate(full=True)


def _column(values: Any, field: str, before: int) -> Iterator[Item]:
    for row, scalar in enumerate(values, before + 1):
        try:
            value = scalar.as_py()
        except UnicodeDecodeError:
            yield Reject(row, "not valid utf-8", excerpt(scalar.as_buffer().to_pybytes()))
        else:
            yield take(value, field, row)
