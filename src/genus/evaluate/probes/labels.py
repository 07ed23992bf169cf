"""Labelled examples of the user: a file of texts and their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genus.prepare.records import Records, read

TEXT = ("text", "sentence", "content", "review")  # names of the column of texts
LABEL = ("label", "class", "category")
MOST = 50  # different labels: each is scored for each question


@dataclass(frozen=True)
class Example:
    text: str
    label: str


def read_labels(path: str | Path, note: Callable[[str], None] = lambda _: None) -> tuple[Example, ...]:
    """The examples of a file with the columns `text` and `label`, in any format that `prepare.records` reads.

    Args:
        note: told how many rows were left out because they cannot be read, or their text or their label is empty.

    Raises:
        ValueError: another kind of file, a missing column, or labels that cannot be told apart.
    """
    found = read(path)
    text, label = _columns(found)
    given = [(str(row.get(text) or "").strip(), _as_text(row.get(label))) for row in found.rows]
    examples = tuple(Example(*each) for each in given if all(each))
    total = len(found) + len(found.rejected)
    if len(examples) < total:
        note(f"{path}: {total - len(examples):,} of {total:,} rows without a text or a label were left out")
    labels = {e.label for e in examples}
    if len(labels) < 2:
        raise ValueError(f"{path} has {len(examples):,} examples with {len(labels)} label(s); at least two labels are needed")
    if len(labels) > MOST:
        raise ValueError(f"{path} has {len(labels):,} different labels and at most {MOST} are scored; is the column a class?")
    return examples


def _columns(found: Records) -> tuple[str, str]:
    names = [next((n for n in wanted if n in found.columns), None) for wanted in (TEXT, LABEL)]
    if names[0] is None or names[1] is None:
        missing = " and ".join(wanted[0] for wanted, name in zip((TEXT, LABEL), names, strict=True) if name is None)
        first = found.rejected[0] if found.rejected else None
        why = f" (the first row that could not be read, {first.place}: {first.reason})" if first else ""
        raise ValueError(f"{found.name} has no column {missing}; its columns are {', '.join(found.columns) or 'none'}{why}")
    return names[0], names[1]


def _as_text(label: Any) -> str:
    return "" if label is None else str(label).strip()
