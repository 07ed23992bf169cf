"""A sample of what `genus prepare` dropped and changed: records of DATA/rejected/*.jsonl, by step and reason.

A file of any size is sampled: a small one as a whole, of a large one stretches that lie evenly over it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Any, NamedTuple

WHOLE = 32 * 2**20
"""Bytes up to which a file is read as a whole."""

STRETCHES, STRETCH = 64, 2**19
"""Of larger files: how many stretches are read, and bytes of each."""


class Rule(NamedTuple):
    """Why a document was dropped or changed. `action`: "dropped" or "changed"."""

    step: str
    action: str
    reason: str


@dataclass(frozen=True)
class Example:
    """One document.

    Attributes:
        source, name, line: where it stands; name: of the member of an archive or the page, "" if there is none; line 0: the
            file as a whole. before: how it begins, or the place of the change. after: the same place afterwards, None if dropped.
        instead: the place of the document that is kept in its place, of repeats.
    """

    source: str
    name: str
    line: int
    before: str
    after: str | None = None
    instead: str | None = None

    @property
    def place(self) -> str:
        """Source and line, as text."""
        return _place(self.source, self.name, self.line)


def sample(folder: Path, count: int) -> dict[Rule, list[Example]]:
    """Up to `count` examples of every rule, in the order of their files. The same ones every time.

    Folders made before there were steps have files named after formats: what stands there could not be read.
    """
    chosen: dict[Rule, list[tuple[int, int, Example]]] = {}
    for number, record in enumerate(_records(folder)):
        rule = Rule(str(record.get("step", "read")), str(record.get("action", "dropped")), str(record.get("reason", "")))
        example = _example(record)
        # Those with the smallest hash: a sample as good as dice would give, and always the same.
        key = -zlib.crc32(f"{number} {example.place}".encode())
        held = chosen.setdefault(rule, [])
        if len(held) < count:
            heappush(held, (key, number, example))
        elif held and key > held[0][0]:
            heapreplace(held, (key, number, example))
    return {rule: [example for _, _, example in sorted(held, key=lambda each: each[1])] for rule, held in chosen.items()}


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        for line in _lines(file):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def _lines(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        if size <= WHOLE:
            yield from stream
            return
        for number in range(STRETCHES):
            stream.seek(number * (size - STRETCH) // (STRETCHES - 1))
            block = stream.read(STRETCH)
            yield from block.split(b"\n")[1 if number else 0 : -1]  # the lines at its ends are cut


def _example(record: dict[str, Any]) -> Example:
    after, instead = record.get("after"), record.get("instead")
    return Example(
        *_where(record),
        str(record.get("excerpt", "")),
        after if isinstance(after, str) else None,
        _place(*_where(instead)) if isinstance(instead, dict) else None,
    )


def _where(record: dict[str, Any]) -> tuple[str, str, int]:
    line = record.get("line")
    return str(record.get("source", "")), str(record.get("name") or ""), line if isinstance(line, int) else 0


def _place(source: str, name: str, line: int) -> str:
    where = f"{source}/{name}" if name else source
    return f"{where}:{line}" if line else where
