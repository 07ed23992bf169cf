"""Which of very many hashes came before: sorted in parts on disk, so that memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

MEMORY = 2**29
"""Bytes that sorting may take."""
EACH = 48
"""Bytes that sorting takes for each hash: itself, its place, their order and copies of both."""
ENTRY = np.dtype([("hash", "<u8"), ("at", "<i8")])


def came_before(arrays: Sequence[np.ndarray], folder: Path, memory: int = MEMORY) -> Iterator[np.ndarray]:
    """For every array of uint64 hashes: True where the same hash stands earlier in it or in an array before it.

    Writes 16 bytes for each hash below `folder`, and removes them.
    """
    starts = np.concatenate([[0], np.cumsum([len(array) for array in arrays], dtype=np.int64)])
    bits = max(0, int(starts[-1] * EACH - 1) // memory).bit_length()
    _scatter(arrays, starts, folder, bits)
    repeats = [_sort(folder / f"part-{part}", memory) for part in range(2**bits)]
    for array, start, stop in zip(arrays, starts, starts[1:]):
        mask = np.zeros(len(array), dtype=bool)
        for places in repeats:
            one, two = np.searchsorted(places, [start, stop])
            mask[places[one:two] - start] = True
        yield mask
    del repeats
    for file in folder.glob("part-*"):
        file.unlink()


def _scatter(arrays: Sequence[np.ndarray], starts: np.ndarray, folder: Path, bits: int) -> None:
    """Append every hash and its place to the file of its highest bits."""
    for part in range(2**bits):
        (folder / f"part-{part}").write_bytes(b"")
    for array, start in zip(arrays, starts):
        entries = np.empty(len(array), dtype=ENTRY)
        entries["hash"] = array
        entries["at"] = np.arange(start, start + len(array))
        highest = (array >> np.uint64(64 - bits)).astype(np.uint16) if bits else np.zeros(len(array), dtype=np.uint16)
        order = np.argsort(highest, kind="stable")
        entries = entries[order]
        borders = np.searchsorted(highest[order], np.arange(2**bits + 1))
        for part, (one, two) in enumerate(pairwise(borders)):
            if two > one:
                with open(folder / f"part-{part}", "ab") as file:
                    file.write(entries[one:two].tobytes())


def _sort(file: Path, memory: int) -> np.ndarray:
    """Places, ascending, of the hashes in a file that are not the first of their kind; mapped from disk."""
    entries = np.fromfile(file, dtype=ENTRY)
    hashes = entries["hash"].copy()
    places = entries["at"].copy()
    del entries
    order = np.argsort(hashes, kind="stable")  # places ascend already, so the first of equals is the earliest
    hashes = hashes[order]
    again = places[order[1:][hashes[1:] == hashes[:-1]]]
    again.sort()
    again.tofile(file)
    return np.memmap(file, dtype=np.int64, mode="r") if len(again) else again
