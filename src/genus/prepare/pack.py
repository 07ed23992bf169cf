"""Put the tokens of all units together, in order, into the shards of the finished folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from genus.prepare import encode
from genus.prepare.dataset import SOURCE, SPLITS, sha256, shard_name
from genus.prepare.workspace import Workspace

SHARD_TOKENS = 2**27
"""Tokens of a full shard (256 MB as uint16); a longer document makes a longer shard."""

_COPY = 2**24


def pack(space: Workspace, units: int, dtype: np.dtype, advance: Callable[[int], None], pairs: bool = False) -> dict[str, Any]:
    """Write the shards of every split, and beside them those of its sources; returns the `splits` part of the manifest."""
    splits: dict[str, Any] = {}
    for split in SPLITS:
        folder = space.folder / split
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        splits[split] = _pack(space, units, dtype, advance, split, folder, "")
        if pairs:
            splits[split]["source"] = _pack(space, units, dtype, advance, f"{split}-source", folder, SOURCE)
    return splits


def _pack(
    space: Workspace, units: int, dtype: np.dtype, advance: Callable[[int], None], name: str, folder: Path, prefix: str
) -> dict[str, Any]:
    """One stream of tokens."""
    shards: list[dict[str, Any]] = []
    characters = 0
    writer = None
    for unit in range(units):
        with np.load(space.file(encode.STAGE, unit, "npz")) as known:
            lengths, sizes = known[f"{name}_lengths"], known[f"{name}_bytes"]
            characters += int(known[f"{name}_characters"][0])
        with open(space.file(encode.STAGE, unit, f"{name}.tokens"), "rb") as file:
            for first, last in _runs(lengths, 0 if writer is None else writer.tokens):
                if writer is None or (writer.tokens and writer.tokens + int(lengths[first]) > SHARD_TOKENS):
                    if writer is not None:
                        shards.append(writer.close())
                    writer = _Shard(folder, len(shards), dtype, prefix)
                writer.append(file, lengths[first:last], sizes[first:last], advance)
    if writer is not None:
        shards.append(writer.close())
    return {
        "documents": sum(shard["documents"] for shard in shards),
        "tokens": sum(shard["tokens"] for shard in shards),
        "bytes": sum(shard["bytes"] for shard in shards),
        "characters": characters,
        "shards": shards,
    }


def _runs(lengths: np.ndarray, filled: int) -> Iterator[tuple[int, int]]:
    """Stretches of documents (first, last) that go into one shard, when the current one holds `filled` tokens."""
    ends = np.cumsum(lengths)
    first, before = 0, 0
    while first < len(lengths):
        room = SHARD_TOKENS - filled
        last = int(np.searchsorted(ends, before + room, side="right"))
        if last == first and filled == 0:
            last = first + 1  # longer than a shard
        if last > first:
            yield first, last
            filled += int(ends[last - 1]) - before
            before = int(ends[last - 1])
            first = last
        if first < len(lengths):
            filled = 0


class _Shard:
    """One shard being written. Its header is filled in at the end, when the length is known."""

    def __init__(self, folder: Path, number: int, dtype: np.dtype, prefix: str = "") -> None:
        self.folder, self.number, self.dtype, self.prefix = folder, number, dtype, prefix
        self.tokens = 0
        self.lengths: list[np.ndarray] = []
        self.sizes: list[np.ndarray] = []
        self.file = open(self._path("tokens"), "wb")  # noqa: SIM115 (closed by `close`)
        self._header()
        self._start = self.file.tell()

    def append(self, file: BinaryIO, lengths: np.ndarray, sizes: np.ndarray, advance: Callable[[int], None]) -> None:
        count = int(lengths.sum())
        left = count * self.dtype.itemsize
        while left:
            block = file.read(min(left, _COPY))
            assert block, "a unit's tokens are shorter than its journal says"
            self.file.write(block)
            left -= len(block)
            advance(len(block))
        self.tokens += count
        self.lengths.append(lengths)
        self.sizes.append(sizes)

    def close(self) -> dict[str, Any]:
        """Finish the three files; returns the shard's entry in the manifest."""
        self.file.seek(0)
        self._header()
        assert self.file.tell() == self._start, "the .npy header changed its length"
        self.file.close()
        ends = np.cumsum(np.concatenate(self.lengths), dtype=np.int64)
        sizes = np.concatenate(self.sizes)
        np.save(self._path("ends"), ends)
        np.save(self._path("bytes"), sizes)
        files = {}
        for what in ("tokens", "ends", "bytes"):
            digest = sha256(self._path(what))
            name = shard_name(self.prefix + what, self.number, digest)
            os.rename(self._path(what), self.folder / name)
            files[name] = {"size": os.path.getsize(self.folder / name), "sha256": digest}
        return {"tokens": self.tokens, "documents": len(ends), "bytes": int(sizes.sum()), "files": files}

    def _path(self, what: str) -> Path:
        """Where a file is written, before its name is known."""
        return self.folder / f".{self.prefix}{what}-{self.number:05d}.npy"

    def _header(self) -> None:
        description = {"descr": self.dtype.newbyteorder("<").str, "fortran_order": False, "shape": (self.tokens,)}
        np.lib.format.write_array_header_1_0(self.file, description)
