"""What a reader is told besides the bytes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from genus.prepare.items import Pair
from genus.prepare.limits import Budget


@dataclass(frozen=True)
class Job:
    """One file, or a part of it, to be read.

    Attributes:
        format: a key of `readers.TABLE`. name: path, address, or name within an archive.
        mode: "file", "blank-line" or "line": what a document is in plain text.
        encoding: of encoded formats. field, source_field: as in `Source`.
        start, stop: row groups or members to read; stop = None reads to the end. Of text, the part begins at byte `start`, where
            the stream stands, and `length` bytes are read (None = all); `last` says whether the file ends there.
        size: bytes of the file as it is packed; None where no one knows.
        path: where the bytes lie as a local file of their own, for libraries that map it.
        budget: what archives and compressed members unpack to is paid from. depth: archives around it.
    """

    format: str
    name: str
    mode: str = "file"
    encoding: str = "utf-8"
    field: str | int | None = None
    source_field: str | int | None = None
    start: int = 0
    stop: int | None = None
    length: int | None = None
    last: bool = True
    size: int | None = None
    path: str | None = None
    budget: Budget = dataclasses.field(default_factory=lambda: Budget(None))
    depth: int = 0

    @property
    def fields(self) -> Pair | None:
        """The two fields of pairs; None when documents are single."""
        return None if self.source_field is None else (self.source_field, self.field)

    @property
    def record(self) -> str | Pair:
        """The field of a JSON record, or the two."""
        return self.fields or str(self.field)
