"""Records: one document per row of a table, object of a JSON file, or pair of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from genus.prepare import plain, tables
from genus.prepare.items import Item
from genus.prepare.read_pairs import read_pairs_csv, read_pairs_rows
from genus.prepare.readers.job import Job


def read_json_lines(file: BinaryIO, job: Job) -> Iterator[Item]:
    """One object per line."""
    return plain.read_json_lines(file, job.length, job.encoding, job.record)


def read_json(file: BinaryIO, job: Job) -> Iterator[Item]:
    """An array of objects, or one."""
    return tables.read_json(file, job.encoding, job.record)


def read_csv(file: BinaryIO, job: Job) -> Iterator[Item]:
    """CSV and TSV."""
    if job.fields is not None:
        return read_pairs_csv(file, job.encoding, job.format, job.fields)
    assert job.field is not None
    return tables.read_csv(file, job.encoding, job.format, job.field)


def read_parquet(file: BinaryIO, job: Job) -> Iterator[Item]:
    """Row groups start .. stop - 1."""
    where = job.path or file
    if job.fields is not None:
        return read_pairs_rows(tables.parquet_rows(where, job.start, job.stop), job.fields)
    return tables.read_parquet(where, job.start, job.stop, str(job.field))


def read_arrow(file: BinaryIO, job: Job) -> Iterator[Item]:
    """The files of `datasets.save_to_disk`, and other Arrow files and streams."""
    where = job.path or file
    if job.fields is not None:
        return read_pairs_rows(tables.arrow_rows(where), job.fields)
    return tables.read_arrow(where, str(job.field))
