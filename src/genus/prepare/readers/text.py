"""Plain text: see `genus.prepare.plain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from genus.prepare.items import Item
from genus.prepare.plain import read_text
from genus.prepare.readers.job import Job


def read(file: BinaryIO, job: Job) -> Iterator[Item]:
    """The file, its paragraphs or its lines."""
    return read_text(file, job.length, job.encoding, job.mode, job.start == 0, job.last)
