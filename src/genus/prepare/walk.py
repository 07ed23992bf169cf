"""The files below a folder, in sorted order; links to folders, hidden and ignored files and what is no file left aside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from genus.prepare.opening import is_file

IGNORED, LINKS, SPECIAL, VENDORED = "ignored by .gitignore", "links to folders", "that are no regular files", "of vendored code"
"""What files are left aside for, besides their suffix."""

CODE_FILES = 10
"""A folder with so many files of source code, and more of them than of all else that can be read, is a source-code tree."""

_GITIGNORE = ".gitignore"
_VENDORED = {
    *("node_modules", "bower_components", "jspm_packages", "vendor", "vendored", "third_party", "third-party", "thirdparty"),
    *("3rdparty", "site-packages", "dist-packages", "pods", "carthage", "deps"),
}


def walk(folder: Path, aside: dict[str, int]) -> Iterator[Path]:
    """Regular files. What is left aside is counted in `aside`; an ignored folder counts as one.

    A link to a file is that file. Links to folders are not followed, so none leads out of the folder or round in a circle.

    Raises:
        ValueError: the folder has a .gitignore and pathspec is not installed.
    """
    rules: dict[str, Any] = {}
    for root, folders, files in os.walk(folder):
        inside = Path(root).relative_to(folder).as_posix()
        inside = "" if inside == "." else inside + "/"
        if _GITIGNORE in files and is_file(os.path.join(root, _GITIGNORE)):
            rules[inside] = _rules(Path(root) / _GITIGNORE)
        kept = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            if os.path.islink(os.path.join(root, name)):
                _count(aside, LINKS)
            elif _ignored(f"{inside}{name}/", rules):
                _count(aside, IGNORED)
            else:
                kept.append(name)
        folders[:] = kept
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(root) / name
            if not is_file(str(path)):
                _count(aside, SPECIAL)
            elif _ignored(f"{inside}{name}", rules):
                _count(aside, IGNORED)
            else:
                yield path


def is_vendored(inside: str) -> bool:
    """Whether a file of a source-code tree lies in a folder for code that others wrote."""
    return any(part.lower() in _VENDORED for part in PurePosixPath(inside).parts[:-1])


def _count(aside: dict[str, int], what: str) -> None:
    aside[what] = aside.get(what, 0) + 1


def _rules(path: Path) -> Any:
    try:
        from pathspec import GitIgnoreSpec
    except ModuleNotFoundError as error:
        raise ValueError(f'{path}: reading it needs the "data" extra: pip install "genus[data]"') from error
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return GitIgnoreSpec.from_lines(lines)
    except (OSError, ValueError):  # no patterns of git's
        return GitIgnoreSpec.from_lines([])


def _ignored(inside: str, rules: dict[str, Any]) -> bool:
    """What the nearest .gitignore that knows the path says of it."""
    for place in sorted(rules, key=len, reverse=True):
        if inside.startswith(place):
            said = rules[place].check_file(inside[len(place) :]).include
            if said is not None:
                return bool(said)
    return False
