"""Office documents and books (.docx .pptx .xlsx .epub), as Markdown, by markitdown (extra `office`)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from genus.prepare.items import Item, Lines, Reject, excerpt, take
from genus.prepare.limits import DOCUMENT_BYTES, FREE_BYTES, RATIO, Excess
from genus.prepare.readers import bare
from genus.prepare.readers.job import Job

_CONVERTERS = {".docx": "DocxConverter", ".pptx": "PptxConverter", ".xlsx": "XlsxConverter", ".epub": "EpubConverter"}


def read(file: BinaryIO, job: Job) -> Iterator[Item]:
    """One file, one document."""
    from markitdown import StreamInfo, converters

    try:
        _check(file)
        suffix = PurePosixPath(bare(job.name)).suffix.lower()
        converter = getattr(converters, _CONVERTERS[suffix])()  # itself: `MarkItDown` loads a network that guesses what a file is
        text = converter.convert(file, StreamInfo(extension=suffix)).markdown
    except Excess as error:
        yield Reject(0, error.reason, str(error))
    except zipfile.BadZipFile as error:
        old = _begins(file) == b"\xd0\xcf\x11\xe0"  # the container of encrypted ones, and of the formats before 2007
        yield Reject(0, "encrypted" if old else "office document that cannot be parsed", excerpt(str(error)))
    except Exception as error:  # four formats, each with a library and errors of its own
        yield Reject(0, "office document that cannot be parsed", f"{type(error).__name__}: {excerpt(str(error))}")
    else:
        yield take(text.encode("utf-8", "replace").decode(), None, 0)
    yield Lines(0)


def _check(file: BinaryIO) -> None:
    """These documents are zip files, which their libraries unpack in memory. No member gives more than the size it claims."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        claimed = sum(member.file_size for member in members)
        packed = sum(member.compress_size for member in members)
    if claimed > max(FREE_BYTES, RATIO * packed) or claimed > 4 * DOCUMENT_BYTES:
        raise Excess("unpacks to too much, rest not read", f"{claimed:,} bytes, packed {packed:,}")
    file.seek(0)


def _begins(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(4)
