"""Where the pairs are: two columns, two fields, or two files that correspond line by line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.prepare.decode import open_binary, peek
from genus.prepare.fields import fields_of
from genus.prepare.items import TRANSLATION
from genus.prepare.readers import TABLE

if TYPE_CHECKING:
    from genus.prepare.sources import Source

USUAL = (
    ("source", "target"),
    ("src", "tgt"),
    ("src", "trg"),
    ("input", "output"),
    ("question", "answer"),
    ("instruction", "response"),
    ("document", "summary"),
    ("article", "highlights"),
    ("text", "summary"),
)
"""Names of the two fields that are tried in this order when `--fields` is not given."""


def choose_pairs(sources: Sequence[Source], asked: Sequence[str], remarks: list[str]) -> list[Source]:
    """Say for every source where its two sides are; two plain texts become one source.

    Args:
        asked: names of the fields of source and target, or their numbers (from 1) in a table without a header line; empty =
            guessed, and told.

    Raises:
        ValueError: it cannot be told, or a plain text has no companion.
    """
    if asked and len(asked) != 2:
        raise ValueError(f"--fields {','.join(asked)}: name two, the source's and then the target's, such as --fields de,en")
    chosen: list[Source] = []
    alone: Source | None = None
    for source in sources:
        if source.format != "text" and not TABLE[source.format].fields:
            raise ValueError(f"{source.label}: pairs are read from tables, JSON and plain text, not from {source.format} files")
        if source.format == "text" and _has_tabs(source):
            source = replace(source, format="tsv")
        if source.format == "text":
            if alone is not None and alone.split == source.split:
                chosen.append(_aligned(alone, source, remarks))
                alone = None
                continue
            _must_be_none(alone)
            alone = source
            continue
        chosen.append(_with_fields(source, asked, remarks))
    _must_be_none(alone)
    return chosen


def _must_be_none(alone: Source | None) -> None:
    if alone is not None:
        raise ValueError(
            f"{alone.label} is plain text without a companion: for pairs give two line-aligned files, source first "
            "(genus prepare train.de train.en --pairs), or lines of the form source TAB target"
        )


def _aligned(first: Source, second: Source, remarks: list[str]) -> Source:
    unknown = tuple(f"{each.label}: unknown suffix" for each in (first, second))
    remarks[:] = [remark for remark in remarks if not remark.startswith(unknown)]  # .de and .en are meant as text
    remarks.append(f"{first.label} and {second.label}: pairs line by line, source first")
    return replace(
        first,
        label=f"{first.label} + {Path(second.path).name}",
        size=first.size + second.size,
        modified=max(first.modified, second.modified),
        beside=second.path,
        source_field=Path(first.path).name,
        field=Path(second.path).name,
    )


def _with_fields(source: Source, asked: Sequence[str], remarks: list[str]) -> Source:
    if source.format in ("csv", "tsv") and (not asked or asked[0].isdigit()):
        named = None if asked else _guess(list(fields_of(source)))
        if named is None:
            columns = [int(column) - 1 for column in asked] if asked and asked[1].isdigit() else [0, 1]
            if min(columns) < 0:
                raise ValueError(f"--fields {','.join(asked)}: columns are counted from 1")
            remarks.append(
                f"{source.label}: column {columns[0] + 1} is the source and {columns[1] + 1} the target, no header line"
            )
            return replace(source, source_field=columns[0], field=columns[1])
        return _named(source, named, remarks)
    if asked:
        return replace(source, source_field=asked[0], field=asked[1])
    present = _inner_fields(source) or list(fields_of(source))
    guessed = _guess(present) or (tuple(present) if len(present) == 2 else None)
    if guessed is None:
        raise ValueError(
            f"cannot tell which fields of {source.label} are source and target; fields present: {', '.join(present)}. "
            "Name them, source first, as in --fields de,en"
        )
    return _named(source, guessed, remarks)


def _named(source: Source, fields: tuple[Any, ...], remarks: list[str]) -> Source:
    remarks.append(
        f"{source.label}: source {fields[0]!r}, target {fields[1]!r} (--fields {fields[1]},{fields[0]} turns them round)"
    )
    return replace(source, source_field=fields[0], field=fields[1])


def _guess(present: Sequence[str]) -> tuple[str, str] | None:
    lower = {name.strip().lower(): name for name in present}
    return next(((lower[a], lower[b]) for a, b in USUAL if a in lower and b in lower), None)


def _inner_fields(source: Source) -> list[str]:
    """What the field `translation` holds, in the order it is written."""
    if source.format in ("parquet", "arrow"):
        return _inner_columns(source)
    text = peek(source.path, source.compression).decode(source.encoding, "replace").lstrip("\ufeff[ \r\n")
    try:
        record, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return []
    inner = record.get(TRANSLATION) if isinstance(record, dict) else None
    return list(inner) if isinstance(inner, dict) else []


def _inner_columns(source: Source) -> list[str]:
    import pyarrow as pa

    if source.format == "parquet":
        import pyarrow.parquet as parquet

        try:
            with open_binary(source.path, None) as file:
                schema = parquet.read_schema(file)
        except (pa.ArrowException, OSError, ValueError):
            return []
    else:
        from genus.prepare.tables import arrow_schema

        with open_binary(source.path, None) as file:
            schema = arrow_schema(file)
    if schema is None or TRANSLATION not in schema.names or not pa.types.is_struct(schema.field(TRANSLATION).type):
        return []
    return [field.name for field in schema.field(TRANSLATION).type]


def _has_tabs(source: Source) -> bool:
    """Whether the first line that is not empty is source TAB target."""
    lines = peek(source.path, source.compression).decode(source.encoding.replace("binary", "utf-8"), "replace").splitlines()
    return next((line for line in lines if line.strip()), "").strip().count("\t") == 1
