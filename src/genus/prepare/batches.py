"""Documents as Arrow record batches of bounded size, and the files that keep them between two rounds.

Columns (`schema`); a step may add more, which then every batch has:

    text          large_string
    source_text   large_string            of pairs only: what the text is a translation of
    row           int64                   number of the document in its unit, as it was read: what steps know it by
    part          int32                   index into plan.units[unit]
    line          int64                   line (or row of a table) within that part, from 1; 0 = the file as a whole
    starts        bool                    false for the later pieces of a file too large to be one document
    held_out      bool                    whether it belongs to a ready-made validation or test set
    name          string, may be null     member of an archive, address of a page, path
    language      string, may be null     as read or as a step found it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.prepare.workspace import appearing

if TYPE_CHECKING:
    import pyarrow as pa

    from genus.prepare.items import Document

TEXT, SOURCE_TEXT = "text", "source_text"

ROWS = 4096
"""Most documents in a batch."""
BYTES = 8 * 2**20
"""A batch is full when its texts have so many characters. A single longer document is a batch of its own."""


def schema(pairs: bool) -> pa.Schema:
    """The columns of documents as they are read."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(TEXT, pa.large_string(), nullable=False),
            *([pa.field(SOURCE_TEXT, pa.large_string(), nullable=False)] if pairs else []),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("part", pa.int32(), nullable=False),
            pa.field("line", pa.int64(), nullable=False),
            pa.field("starts", pa.bool_(), nullable=False),
            pa.field("held_out", pa.bool_(), nullable=False),
            pa.field("name", pa.string()),
            pa.field("language", pa.string()),
        ]
    )


def columns(batch: pa.RecordBatch) -> list[str]:
    """The columns that hold text: "text", and of pairs "source_text" too."""
    return [name for name in (TEXT, SOURCE_TEXT) if name in batch.schema.names]


def held_out(batch: pa.RecordBatch) -> np.ndarray:
    """Which documents belong to a ready-made validation or test set: (rows,) bool."""
    return np.asarray(batch.column("held_out").to_numpy(zero_copy_only=False))


def text_bytes(batch: pa.RecordBatch) -> int:
    """UTF-8 bytes of the texts, both sides of pairs."""
    import pyarrow.compute as pc

    return sum(pc.sum(pc.binary_length(batch.column(name)), min_count=0).as_py() for name in columns(batch))


class Builder:
    """Collects documents and gives them back in batches.

    Args:
        pairs: whether every document has a source.
    """

    def __init__(self, pairs: bool = False) -> None:
        self._schema = schema(pairs)
        self._row = 0
        self._clear()

    def _clear(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._size = 0

    def add(self, document: Document, part: int, held_out: bool = False) -> pa.RecordBatch | None:
        """Take a document; returns a batch when it has become full."""
        values = {
            TEXT: document.text,
            SOURCE_TEXT: document.source,
            "row": self._row,
            "part": part,
            "line": document.line,
            "starts": document.starts,
            "held_out": held_out,
            "name": document.name,
            "language": document.language,
        }
        for name, column in self._columns.items():
            column.append(values[name])
        self._row += 1
        self._size += len(document.text) + len(document.source or "")
        full = len(self._columns["row"]) >= ROWS or self._size >= BYTES
        return self.flush() if full else None

    def flush(self) -> pa.RecordBatch | None:
        """What has been collected since the last batch; None when that is nothing."""
        import pyarrow as pa

        if not self._columns["row"]:
            return None
        arrays = [pa.array(self._columns[field.name], type=field.type) for field in self._schema]
        self._clear()
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def batches_of(documents: Iterable[Document], part: int = 0, pairs: bool = False) -> Iterator[pa.RecordBatch]:
    """Documents of one part in batches."""
    builder = Builder(pairs)
    for document in documents:
        if (batch := builder.add(document, part)) is not None:
            yield batch
    if (batch := builder.flush()) is not None:
        yield batch


class Store:
    """A file of batches being written (Arrow IPC, LZ4)."""

    def __init__(self, path: Path, of: pa.Schema) -> None:
        self._path, self._schema = path, of
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch. The first one's columns are those of the file."""
        self._open(batch.schema).write_batch(batch)

    def close(self) -> None:
        self._open(self._schema).close()

    def _open(self, of: pa.Schema) -> Any:
        import pyarrow as pa

        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writer = pa.ipc.new_file(str(self._path), of, options=options)
        return self._writer


@contextmanager
def writing(path: Path, pairs: bool = False) -> Iterator[Store]:
    """A store that comes into being complete when the block ends."""
    with appearing(path) as temporary:
        store = Store(temporary, schema(pairs))
        try:
            yield store
        finally:
            store.close()


def read_store(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a file that `Store` wrote, one at a time."""
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as file:
        reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(use_threads=False))
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
