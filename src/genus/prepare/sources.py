"""Find the files to read, and say for each what it is: format, compression, encoding, text field, ready-made split.

Folders are walked in sorted order, so the same arguments always give the same list.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from genus.prepare.decode import Compression, guess_encoding, peek
from genus.prepare.fields import choose_field, holds_lines
from genus.prepare.pairs import choose_pairs

FORMATS = {
    ".txt": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}

_BOOKKEEPING = {"dataset_info.json", "dataset_dict.json", "state.json", "dataset_infos.json"}
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Source:
    """One file to read.

    Attributes:
        path: absolute path.
        label: how reports name it: the path as it was given.
        format: "text", "jsonl", "json", "csv", "tsv", "parquet" or "arrow".
        compression: "gz", "zst" or None.
        split: "train", "validation" or "test" when the data came split; None when it is ours to split.
        size, modified: bytes and nanoseconds, to notice a file that changes between two runs.
        encoding: of text formats.
        field: name of the text field; an integer is a column (from 0) of a table without a header line.
        source_field: in pairs, that of the text that `field` is a translation of.
        beside: in pairs, the file whose lines are the translations of this one's.
    """

    path: str
    label: str
    format: str
    compression: Compression | None = None
    split: str | None = None
    size: int = 0
    modified: int = 0
    encoding: str = "utf-8"
    field: str | int | None = None
    source_field: str | int | None = None
    beside: str | None = None

    @property
    def paired(self) -> bool:
        """Whether it holds pairs."""
        return self.beside is not None or self.source_field is not None


@dataclass
class Found:
    """What `find` saw: the sources in order, files left aside by suffix, and remarks for the user."""

    sources: list[Source] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def find(
    paths: Sequence[str | Path],
    validation: Sequence[str | Path] = (),
    test: Sequence[str | Path] = (),
    text_field: str | None = None,
    pairs: Sequence[str] | None = None,
) -> Found:
    """List the sources behind files, folders and globs.

    Args:
        paths: what to prepare. Ready-made splits inside a folder (train, validation, test in file or folder names) are kept.
        validation, test: files that are ready-made splits.
        text_field: `--field`: name of the text field, or number (from 1) of a column in tables without a header line.
        pairs: the fields of source and target, or nothing of them, where every document is a pair; None = single texts.

    Raises:
        ValueError: nothing there, nothing readable, or no such field (the message lists the fields present).
    """
    found = Found()
    for given in paths:
        found.sources += _expand(str(given), found)
    for files, split in ((validation, "validation"), (test, "test")):
        for given in files:
            found.sources += [replace(source, split=split) for source in _expand(str(given), found, keep_splits=False)]
    found.sources = _unique(found.sources)
    if not found.sources:
        aside = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(found.skipped.items()))
        raise ValueError(
            f"no text found in {', '.join(map(str, paths))}"
            + (f" (files left aside: {aside})" if aside else "")
            + f". Readable: {' '.join(FORMATS)}, also with .gz or .zst, and Hugging Face datasets folders"
        )
    if any(source.split for source in found.sources):
        # What lies beside a ready-made split and names none is training text.
        found.sources = [source if source.split else replace(source, split="train") for source in found.sources]
        if not any(source.split == "train" for source in found.sources):
            raise ValueError("every file given is validation or test: name at least one file to train on")
    found.sources = [_describe(source) for source in found.sources]
    if pairs is None:
        found.sources = choose_field(found.sources, text_field, found.remarks)
    else:
        found.sources = choose_pairs(found.sources, pairs, found.remarks)
    return found


def listed(path: str | Path) -> list[Source]:
    """The files behind a file, folder or glob, described, each with the split that its folder's names tell; without text fields.

    Raises:
        ValueError: nothing there, or nothing that can be read.
    """
    found = Found()
    sources = [_describe(source) for source in _expand(str(path), found)]
    if not sources or any("unknown suffix" in remark for remark in found.remarks):
        raise ValueError(
            f"{path} holds no rows: {' '.join(FORMATS)} can be read, also with .gz or .zst; save a spreadsheet as .csv"
        )
    return sources


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of: "train-00000-of-00002.parquet" -> "train"; None when it names none."""
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in _SPLITS:
            return _SPLITS[word]
    return None


def _expand(given: str, found: Found, keep_splits: bool = True) -> list[Source]:
    path = Path(given)
    if path.is_dir():
        sources = [
            source for file in _walk(path) if (source := _recognise(file, os.path.join(given, file.relative_to(path)), found))
        ]
        return _keep_splits(path, sources, found) if keep_splits else sources
    if path.is_file():
        source = _recognise(path, given, found, named=True)
        return [source] if source else []
    matches = sorted(glob.glob(given, recursive=True))
    if not matches:
        raise ValueError(f"no such file or folder: {given}")
    return [source for match in matches for source in _expand(match, found, keep_splits=False)]


def _walk(folder: Path) -> Iterable[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(root) / name


def _recognise(path: Path, label: str, found: Found, named: bool = False) -> Source | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    rest = suffixes[:-1] if compression else suffixes
    kind = FORMATS.get(rest[-1]) if rest else None
    if path.name in _BOOKKEEPING or (kind in ("parquet", "arrow") and compression):
        return None
    if kind is None:
        if not named:
            suffix = "".join(path.suffixes[-2:] if compression else path.suffixes[-1:])
            found.skipped[suffix] = found.skipped.get(suffix, 0) + 1
            return None
        kind = "text"
        found.remarks.append(f"{label}: unknown suffix, read as plain text")
    return Source(str(path.resolve()), label, kind, compression)


def _keep_splits(folder: Path, sources: list[Source], found: Found) -> list[Source]:
    """Keep train/validation/test as a folder's names tell them, when every file names one and there is something to train on."""
    named = [split_of("/".join(_inside(folder, source)).removesuffix(Path(source.path).suffix)) for source in sources]
    if not sources or None in named or "train" not in named:
        return sources
    counts = {split: named.count(split) for split in ("train", "validation", "test") if split in named}
    found.remarks.append(
        f"{folder}: ready-made splits kept: "
        + ", ".join(f"{split} ({count} file{'s' * (count > 1)})" for split, count in counts.items())
    )
    return [replace(source, split=split) for source, split in zip(sources, named, strict=True)]


def _inside(folder: Path, source: Source) -> tuple[str, ...]:
    return Path(source.path).relative_to(folder.resolve()).parts


def _unique(sources: list[Source]) -> list[Source]:
    # A file given twice counts once; a later, more telling mention (--val FILE inside the folder) wins.
    chosen: dict[str, Source] = {}
    for source in sources:
        if source.path not in chosen or source.split:
            chosen[source.path] = source
    return list(chosen.values())


def _describe(source: Source) -> Source:
    status = os.stat(source.path)
    if source.format in ("parquet", "arrow"):
        return replace(source, size=status.st_size, modified=status.st_mtime_ns)
    start = peek(source.path, source.compression)
    encoding = guess_encoding(start)
    kind = "jsonl" if source.format == "json" and holds_lines(start, encoding) else source.format
    return replace(source, format=kind, size=status.st_size, modified=status.st_mtime_ns, encoding=encoding)
