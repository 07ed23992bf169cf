"""Find the files to read, and say for each what it is: format, compression, encoding, text field, ready-made split.

Folders are walked in sorted order, so the same arguments always give the same list.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from genus.prepare.dataset import HELD_OUT
from genus.prepare.decode import Compression, guess_encoding, peek
from genus.prepare.fields import choose_field, holds_lines
from genus.prepare.opening import below, is_address, is_file, is_page, stamp
from genus.prepare.pairs import choose_pairs
from genus.prepare.readers import SUFFIXES, TABLE, kind_of, missing_package, suffix_of
from genus.prepare.walk import CODE_FILES, VENDORED, is_vendored, walk

FORMATS = SUFFIXES
"""Suffix -> format. Source code, whose suffixes are many, is in `readers/languages.py`."""

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
        path: absolute path, or an address for fsspec.
        label: how reports name it: the path as it was given.
        format: a key of `readers.TABLE`.
        compression: "gz", "zst", "bz2", "xz" or None.
        split: "train", "validation" or "test" when the data came split; None when it is ours to split.
        size, modified: bytes (0 where a server does not say) and nanoseconds or a hash (`opening.Stamp`), to notice a file that
            changes.
        encoding: of text formats.
        field: name of the text field; an integer is a column (from 0) of a table without a header line.
        source_field: in pairs, that of the text that `field` is a translation of.
        beside: in pairs, the file whose lines are the translations of this one's.
        group: what the mixture calls the sources it belongs to.
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
    group: str | None = None

    @property
    def paired(self) -> bool:
        """Whether it holds pairs."""
        return self.beside is not None or self.source_field is not None


@dataclass
class Found:
    """What `find` saw.

    Attributes:
        sources: in order. skipped: files left aside, by suffix. remarks: for the user. unclear: labels of files that name
            validation or test in folders that name no splits otherwise.
    """

    sources: list[Source] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def leave(self, what: str) -> None:
        """Count a file that is left aside."""
        self.skipped[what] = self.skipped.get(what, 0) + 1


def find(
    paths: Sequence[str | Path],
    validation: Sequence[str | Path] = (),
    test: Sequence[str | Path] = (),
    text_field: str | None = None,
    pairs: Sequence[str] | None = None,
    groups: Sequence[str | None] = (),
) -> Found:
    """List the sources behind files, folders and globs.

    Args:
        paths: what to prepare. Ready-made splits inside a folder (train, validation, test in file or folder names) are kept.
        validation, test: files that are ready-made splits.
        text_field: `--field`: name of the text field, or number (from 1) of a column in tables without a header line.
        pairs: the fields of source and target, or nothing of them, where every document is a pair; None = single texts.
        groups: what the mixture calls every one of `paths`.

    Raises:
        ValueError: nothing there, nothing readable, or no such field (the message lists the fields present).
    """
    found = Found()
    for given, group in zip_longest(paths, groups):
        found.sources += [replace(source, group=group) for source in _expand(str(given), found)]
    for files, split in ((validation, "validation"), (test, "test")):
        for given in files:
            found.sources += [replace(source, split=split) for source in _expand(str(given), found, keep_splits=False)]
    found.sources = _unique(found.sources)
    if not found.sources:
        aside = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(found.skipped.items()))
        raise ValueError(
            f"no text found in {', '.join(map(str, paths))}"
            + (f" (files left aside: {aside})" if aside else "")
            + f". Readable: {' '.join(FORMATS)}, source code, also with .gz .zst .bz2 .xz, and Hugging Face datasets folders"
        )
    if unclear := [source.label for source in found.sources if source.label in found.unclear and not source.split]:
        found.remarks.append(
            f"{unclear[0]}{f' and {len(unclear) - 1:,} more' if unclear[1:] else ''}: held out by name, but not every file of "
            "the folder names its split, so it is taken like the others; --validation FILE and --test FILE hold files out"
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
    rows = {name for name, entry in TABLE.items() if entry.fields or name == "text"}
    sources = [_describe(source) for source in _expand(str(path), found, trees=False) if source.format in rows]
    if not sources or any("unknown suffix" in remark for remark in found.remarks):
        readable = " ".join(suffix for suffix, kind in FORMATS.items() if kind in rows)
        raise ValueError(f"{path} holds no rows: {readable} can be read, also with .gz .zst .bz2 .xz; save a spreadsheet as .csv")
    return sources


def stamp_of(source: Source) -> tuple[int, int]:
    """Size and state of a source as it is now, to compare with its `size` and `modified`.

    Raises:
        OSError: it is gone.
    """
    stamps = [stamp(path) for path in (source.path, source.beside) if path is not None]
    return sum(each.size or 0 for each in stamps), max(each.modified for each in stamps)


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of: "train-00000-of-00002.parquet" -> "train"; None when it names none."""
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in _SPLITS:
            return _SPLITS[word]
    return None


def _expand(given: str, found: Found, keep_splits: bool = True, trees: bool = True) -> list[Source]:
    """The sources behind one argument. `trees`: whether a folder may be taken for a source-code tree."""
    if is_address(given):
        is_folder, files = below(given)
        if not is_folder:
            named = [_recognise(address, address, inside, found, named=True) for address, inside in files]
            return [source for source in named if source]
        visible = [(address, address, inside) for address, inside in files if not re.search(r"(^|/)\.", inside)]
        return _folder(given, visible, found, keep_splits, trees)
    path = Path(given)
    if path.is_dir():
        inner = [(file, file.relative_to(path)) for file in walk(path, found.skipped)]
        listed = [(str(file.resolve()), os.path.join(given, inside), inside.as_posix()) for file, inside in inner]
        return _folder(given, listed, found, keep_splits, trees)
    if is_file(given):
        source = _recognise(str(path.resolve()), given, path.name, found, named=True)
        return [source] if source else []
    matches = [match for match in sorted(glob.glob(given, recursive=True)) if os.path.isdir(match) or is_file(match)]
    if not matches:
        there = "no regular file: save what it gives in one" if os.path.lexists(given) else "no such file or folder"
        raise ValueError(f"{there}: {given}")
    return [source for match in matches for source in _expand(match, found, keep_splits=False, trees=trees)]


def _folder(given: str, files: Sequence[tuple[str, str, str]], found: Found, keep_splits: bool, trees: bool) -> list[Source]:
    """Sources of a folder's files: (path, label, path inside the folder) of each."""
    kinds = [kind_of(inside)[0] for _, _, inside in files]
    code = kinds.count("code")
    is_tree = trees and code >= CODE_FILES and 2 * code > sum(kind is not None for kind in kinds)
    sources, names = [], []
    for (path, label, inside), kind in zip(files, kinds, strict=True):
        if is_tree and kind is not None and is_vendored(inside):
            found.leave(VENDORED)
        elif (kind == "code" and not is_tree) or (is_tree and kind not in ("code", "text", None)):
            found.leave(suffix_of(inside))
        elif source := _recognise(path, label, inside, found):
            sources.append(source)
            names.append(inside)
    if is_tree:
        found.remarks.append(f"{given}: a source-code tree ({code:,} files of code): code and plain text are read, nothing else")
    return _keep_splits(given, sources, names, found, is_tree) if keep_splits else sources


def _recognise(path: str, label: str, name: str, found: Found, named: bool = False) -> Source | None:
    """The source that a file is, by its name; None when it is left aside. `named`: the user named this very file."""
    kind, compression = kind_of(name)
    if name.rpartition("/")[2] in _BOOKKEEPING or (kind in ("parquet", "arrow") and compression):
        return None
    if kind is None and not named:
        found.leave(suffix_of(name))
        return None
    if kind is None and is_address(path) and is_page(path):
        kind = "html"
    elif kind is None:
        kind = "text"
        found.remarks.append(f"{label}: unknown suffix, read as plain text")
    if missing := missing_package(kind):
        if named:
            raise ValueError(f"{label}: reading it needs another package: {missing}")
        found.leave(suffix_of(name))
        remark = f"{suffix_of(name)} files are left aside: reading them needs {missing}"
        found.remarks += [] if remark in found.remarks else [remark]
        return None
    return Source(path, label, kind, compression)


def _keep_splits(folder: str, sources: list[Source], names: list[str], found: Found, is_tree: bool) -> list[Source]:
    """Keep train/validation/test as a folder's names tell them, when every file names one and there is something to train on."""
    named = [split_of(name.removesuffix(PurePosixPath(name).suffix)) for name in names]
    if None in named or "train" not in named:
        if not is_tree:
            found.unclear += [source.label for source, split in zip(sources, named, strict=True) if split in HELD_OUT]
        return sources
    counts = {split: named.count(split) for split in ("train", "validation", "test") if split in named}
    found.remarks.append(
        f"{folder}: ready-made splits kept: "
        + ", ".join(f"{split} ({count} file{'s' * (count > 1)})" for split, count in counts.items())
    )
    return [replace(source, split=split) for source, split in zip(sources, named, strict=True)]


def _unique(sources: list[Source]) -> list[Source]:
    # A file given twice counts once; a later, more telling mention (--val FILE inside the folder) wins.
    chosen: dict[str, Source] = {}
    for source in sources:
        if source.path not in chosen or source.split:
            chosen[source.path] = source
    return list(chosen.values())


def _describe(source: Source) -> Source:
    try:
        size, modified = stamp_of(source)
    except OSError as error:
        raise ValueError(f"cannot read {source.label}: {error}") from error
    source = replace(source, size=size, modified=modified)
    if not TABLE[source.format].encoded:
        return source
    start = peek(source.path, source.compression)
    encoding = guess_encoding(start)
    kind = "jsonl" if source.format == "json" and holds_lines(start, encoding) else source.format
    return replace(source, format=kind, encoding=encoding)
