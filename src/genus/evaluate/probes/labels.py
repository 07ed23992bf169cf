"""Labelled examples of the user: a file of texts and their labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT = ("text", "sentence", "content", "review")  # names of the column of texts
LABEL = ("label", "class", "category")
MOST = 50  # different labels: each is scored for each question


@dataclass(frozen=True)
class Example:
    text: str
    label: str


def read_labels(path: str | Path, note: Callable[[str], None] = lambda _: None) -> tuple[Example, ...]:
    """The examples of a .tsv, .csv or .jsonl file with the columns `text` and `label`.

    Args:
        note: told how many rows were left out because their text or their label is empty.

    Raises:
        ValueError: another kind of file, a missing column, or labels that cannot be told apart.
    """
    path = Path(path)
    readers = {".tsv": _table, ".csv": _table, ".jsonl": _lines, ".json": _lines}
    if path.suffix not in readers:
        raise ValueError(f"{path}: labels are read from .tsv, .csv or .jsonl")
    rows = list(readers[path.suffix](path))
    examples = tuple(row for row in rows if row is not None)
    if len(examples) < len(rows):
        note(f"{path}: {len(rows) - len(examples):,} of {len(rows):,} rows without a text or a label were left out")
    labels = {e.label for e in examples}
    if len(labels) < 2:
        raise ValueError(f"{path} has {len(examples):,} examples with {len(labels)} label(s); at least two labels are needed")
    if len(labels) > MOST:
        raise ValueError(f"{path} has {len(labels):,} different labels and at most {MOST} are scored; is the column a class?")
    return examples


def _table(path: Path) -> Iterator[Example | None]:
    tabs = path.suffix == ".tsv"
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(file)
        names = [name.strip() for name in next(rows, [])]
        text, label = (names.index(name) for name in _columns(path, names))
        for row in rows:
            if row:
                yield _example(row[text], row[label]) if len(row) > max(text, label) else None


def _lines(path: Path) -> Iterator[Example | None]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg}); one object a line is expected") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: an object with `text` and `label` is expected")
            text, label = _columns(path, list(row))
            yield _example(row[text], row[label])


def _columns(path: Path, names: list[str]) -> tuple[str, str]:
    found = [next((n for n in wanted if n in names), None) for wanted in (TEXT, LABEL)]
    if found[0] is None or found[1] is None:
        missing = " and ".join(wanted[0] for wanted, name in zip((TEXT, LABEL), found, strict=True) if name is None)
        raise ValueError(f"{path} has no column {missing}; its columns are {', '.join(names) or 'none'}")
    return found[0], found[1]


def _example(text: Any, label: Any) -> Example | None:
    """None where either is empty."""
    text, label = str(text).strip(), str(label).strip()
    return Example(text, label) if text and label else None
