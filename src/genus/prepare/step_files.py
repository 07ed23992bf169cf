"""What the steps read beside the documents, by content: a part of the plan.

So a killed run whose model or evaluation set has changed since then starts anew, and the manifest says what was used.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable
from pathlib import Path

from genus.prepare.steps.step import Step


def contents(steps: Iterable[Step]) -> dict[str, str]:
    """A hash of every file, and of every folder's files, that a step reads, by path.

    Raises:
        ValueError: there is no such file.
    """
    return {path: _of(path, step.NAME) for step in steps for path in step.reads()}


def _of(path: str, step: str) -> str:
    found = [Path(path)] if Path(path).exists() else [Path(each) for each in sorted(glob.glob(path, recursive=True))]
    if not found:
        raise ValueError(f"{step}: there is no {path}: look how it is written, and from which folder")
    files = [(file, file.relative_to(each)) for each in found for file in (sorted(each.rglob("*")) if each.is_dir() else [each])]
    whole = hashlib.blake2b(digest_size=16)
    for file, name in files:
        if file.is_file():
            with open(file, "rb") as opened:
                whole.update(f"{name}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
