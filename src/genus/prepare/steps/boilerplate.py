"""Lines that stand in many documents of one site: menus, cookie notices, footers.

Lines are told apart by 64-bit hashes, after CCNet (Wenzek et al. 2020, arXiv:1911.00359): small letters, digits
all alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import numpy as np

from genus.prepare.steps.keys import hashes, mix
from genus.prepare.steps.layout import Layout
from genus.prepare.steps.step import Function, Outcome, Survey, replace_text

if TYPE_CHECKING:
    import pyarrow as pa

FOUND = "lines.npy"
AT_ONCE = 2**24
"""Hashes that are sorted at once (of 16 bytes with their counts): what bounds the memory of `decide`."""

_SAME = bytes(ord("0") if 48 <= byte < 58 else byte + 32 if 65 <= byte < 91 else byte for byte in range(256))


@dataclass(frozen=True)
class Boilerplate(Survey):
    """Remove lines that stand in many documents of the same site.

    The site is the host of the document's web address; all documents without one are one site. Lines that differ only in
    digits or in the size of Latin letters are one.

    Attributes:
        documents: a line is removed when it stands in at least so many documents of its site,
        share: and in at least this share of them.
    """

    NAME: ClassVar[str] = "boilerplate"

    documents: int = 5
    share: float = 0.05

    def observe(self, batch: pa.RecordBatch) -> pa.Table | None:
        """For every line of a batch: `key`, and in how many `documents` of the batch it stands; `row` of the first of them.

        `site` is the key of the site. A line whose key is that of its site counts the site's documents.
        """
        import pyarrow as pa

        layout, sites = Layout(batch.column("text")), self._sites(batch)
        rows = np.asarray(batch.column("row"))
        own = np.concatenate([self._keys(layout, sites), sites])
        text = np.concatenate([layout.lines.text, np.arange(len(layout))])
        _, once = np.unique(mix(own, text.astype(np.uint64)), return_index=True)
        keys, first, documents = np.unique(own[once], return_index=True, return_counts=True)
        at = text[once[first]]
        return pa.table({"row": rows[at], "site": sites[at], "key": keys, "documents": documents.astype(np.uint32)})

    def decide(self, observed: Iterable[tuple[int, pa.Table]], folder: Path, seed: int) -> dict[str, Any]:
        sizes, entries = self._site_sizes(observed)
        passes = max(1, -(-entries // AT_ONCE))
        found = []
        for number in range(passes):
            keys, site, documents = _summed(self._part(observed, number, passes))
            enough = np.maximum(self.documents, self.share * sizes.of(site))
            found.append(keys[(documents >= enough) & (keys != site)])
        lines = np.sort(np.concatenate(found))
        np.save(folder / FOUND, lines)
        return {"lines": len(lines), "sites": len(sizes.sites)}

    def apply(self, folder: Path, unit: int) -> Function:
        lines = np.load(folder / FOUND, mmap_mode="r")

        def clean(batch: pa.RecordBatch) -> Outcome:
            layout = Layout(batch.column("text"))
            keys = self._keys(layout, self._sites(batch))
            at = np.searchsorted(lines, keys)
            gone = np.zeros(len(keys), dtype=bool)
            if len(lines):
                gone = np.asarray(lines[np.minimum(at, len(lines) - 1)]) == keys
            return replace_text(batch, layout.without(gone), "boilerplate", counts={"lines removed": int(gone.sum())})

        return clean

    def _keys(self, layout: Layout, sites: np.ndarray) -> np.ndarray:
        """A hash of every line and its site: (lines,) uint64."""
        same = np.frombuffer(layout.data.tobytes().translate(_SAME), dtype=np.uint8)
        return mix(hashes(same, layout.lines.start, layout.lines.end), sites[layout.lines.text])

    def _sites(self, batch: pa.RecordBatch) -> np.ndarray:
        """A hash of the site of every document: (documents,) uint64."""
        hosts = [host(name) for name in batch.column("name").to_pylist()]
        whole = np.frombuffer("".join(hosts).encode(), dtype=np.uint8)
        ends = np.cumsum([len(each.encode()) for each in hosts])
        return hashes(whole, np.concatenate([[0], ends[:-1]]).astype(np.int64), ends)

    def _site_sizes(self, observed: Iterable[tuple[int, pa.Table]]) -> tuple[_Sizes, int]:
        """How many documents each site has, and how many entries were observed in all."""
        entries, site, documents = 0, np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        for _, table in observed:
            keys, its_site, number = _columns(table)
            own = keys == its_site
            entries += len(keys)
            site, _, documents = _sum(np.append(site, keys[own]), np.append(site, keys[own]), np.append(documents, number[own]))
        return _Sizes(site, documents), entries

    def _part(self, observed: Iterable[tuple[int, pa.Table]], number: int, passes: int) -> Iterator[tuple[np.ndarray, ...]]:
        """The entries whose keys belong to one of several passes."""
        for _, table in observed:
            columns = _columns(table)
            if passes > 1:
                chosen = columns[0] % np.uint64(passes) == number
                columns = tuple(column[chosen] for column in columns)
            yield columns


@dataclass(frozen=True)
class _Sizes:
    """How many documents each site has; `sites` in order."""

    sites: np.ndarray
    documents: np.ndarray

    def of(self, sites: np.ndarray) -> np.ndarray:
        return self.documents[np.searchsorted(self.sites, sites)]


def host(name: str | None) -> str:
    """The host of a web address, without "www."; nothing for what is none."""
    if name is None or "://" not in name:
        return ""
    try:
        return (urlsplit(name).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def _columns(table: pa.Table) -> tuple[np.ndarray, ...]:
    return table["key"].to_numpy(), table["site"].to_numpy(), table["documents"].to_numpy().astype(np.int64)


def _sum(keys: np.ndarray, site: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries of one key made one."""
    unique, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return unique, site[first], np.bincount(which, weights=documents, minlength=len(unique)).astype(np.int64)


def _summed(parts: Iterable[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries of all parts, those of one key made one; summed up whenever there is much of them."""
    held: list[tuple[np.ndarray, ...]] = []
    for part in parts:
        held.append(part)
        if sum(len(keys) for keys, _, _ in held) > 2 * AT_ONCE:
            held = [_sum(*map(np.concatenate, zip(*held)))]
    if not held:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return _sum(*map(np.concatenate, zip(*held)))
