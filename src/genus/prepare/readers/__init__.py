"""What can be read: one entry in this table and one file beside it for each format.

A reader is a function

    read(file: BinaryIO, job: Job) -> Iterator[Item]

that gives the documents of a stream, and a `Reject` for everything in it that is none; it may leave the errors of reading and
decoding (`OSError`, `UnicodeDecodeError` ...) to its caller, `read_stream`. It is imported when the first such file is met.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import BinaryIO

from genus.prepare.decode import Compression, as_utf8, is_wide, read_errors
from genus.prepare.items import Item, Reject
from genus.prepare.limits import Excess, seekable
from genus.prepare.readers.job import Job
from genus.prepare.readers.languages import language_of


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffixes: of its files. reader: "module:function" in this package.
        encoded: its bytes are text in an encoding that has to be guessed.
        fields: it holds records, and one of their fields is the text.
        seeks: it is read back and forth.
        cut: what a large one can be divided at, to be read by several processes: "lines", "row groups", "members".
        archive: it holds other files.
        needs: packages that its reader imports. extra: of Genus, that installs them.
    """

    suffixes: tuple[str, ...]
    reader: str
    encoded: bool = False
    fields: bool = False
    seeks: bool = False
    cut: str | None = None
    archive: bool = False
    needs: tuple[str, ...] = ()
    extra: str = "data"


TABLE = {
    "text": Format((".txt", ".md", ".markdown", ".rst"), "text:read", encoded=True, cut="lines"),
    "jsonl": Format((".jsonl", ".ndjson"), "records:read_json_lines", encoded=True, fields=True, cut="lines"),
    "json": Format((".json",), "records:read_json", encoded=True, fields=True),
    "csv": Format((".csv",), "records:read_csv", encoded=True, fields=True),
    "tsv": Format((".tsv",), "records:read_csv", encoded=True, fields=True),
    "parquet": Format((".parquet",), "records:read_parquet", fields=True, seeks=True, cut="row groups"),
    "arrow": Format((".arrow",), "records:read_arrow", fields=True, seeks=True),
    "html": Format((".html", ".htm", ".xhtml"), "html:read", needs=("trafilatura",)),
    "warc": Format((".warc", ".wet", ".arc"), "warc:read", needs=("warcio", "trafilatura")),
    "pdf": Format((".pdf",), "pdf:read", seeks=True, needs=("pypdfium2",)),
    "office": Format((".docx", ".pptx", ".xlsx", ".epub"), "office:read", seeks=True, needs=("markitdown",), extra="office"),
    "eml": Format((".eml",), "mail:read_message"),
    "mbox": Format((".mbox",), "mail:read_mailbox"),
    "subtitles": Format((".srt", ".vtt"), "subtitles:read", encoded=True),
    "code": Format((), "code:read", encoded=True),  # by readers/languages.py
    "zip": Format((".zip",), "archive:read_zip", seeks=True, cut="members", archive=True),
    "tar": Format((".tar",), "archive:read_tar", archive=True),
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst", ".bz2": "bz2", ".xz": "xz"}
SUFFIXES = {suffix: name for name, entry in TABLE.items() for suffix in entry.suffixes}

_SHORT = {".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".tbz": ".tar.bz2", ".txz": ".tar.xz", ".tzst": ".tar.zst"}


def kind_of(name: str) -> tuple[str | None, Compression | None]:
    """The format and the compression that a file's name tells. "a/B.TAR.GZ" -> ("tar", "gz"); (None, ...) when it is unknown."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if suffix in _SHORT:
        path = path.with_suffix(_SHORT[suffix])
    inside = PurePosixPath(bare(str(path)))
    known = SUFFIXES.get(inside.suffix.lower())
    return known or ("code" if language_of(inside.name) else None), COMPRESSIONS.get(path.suffix.lower())


def bare(name: str) -> str:
    """A file's name without the suffix of its compression."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in COMPRESSIONS else name


@cache
def missing_package(kind: str) -> str | None:
    """How to install what a format needs, when that is not there; None when it is."""
    entry = TABLE[kind]
    return None if all(find_spec(name) for name in entry.needs) else f'pip install "genus[{entry.extra}]"'


def suffix_of(name: str) -> str:
    """What files that are left aside are counted by: "x.png.gz" -> ".png.gz"."""
    suffixes = PurePosixPath(name).suffixes
    return "".join(suffixes[-2:] if suffixes and suffixes[-1].lower() in COMPRESSIONS else suffixes[-1:])


def read_stream(file: BinaryIO, job: Job) -> Iterator[Item]:
    """Everything that a file holds. Whatever is wrong with it becomes a `Reject`."""
    entry = TABLE[job.format]
    if job.encoding == "binary":
        yield Reject(0, "not text")
        return
    try:
        if entry.seeks:
            file = seekable(file)
        inside = job
        if entry.encoded and is_wide(job.encoding):
            file, inside = as_utf8(file, job.encoding), replace(job, encoding="utf-8")
        yield from _reader(entry.reader)(file, inside)
    except Excess as error:
        yield Reject(0, error.reason, str(error)[:200])
    except UnicodeDecodeError as error:
        yield Reject(0, f"not valid {job.encoding}, rest of the file not read", str(error)[:200])
    except read_errors() as error:
        yield Reject(0, "damaged file, rest not read", str(error)[:200])


def _reader(place: str) -> Callable[[BinaryIO, Job], Iterator[Item]]:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)
