"""What was put aside, for a reader at a terminal: a sample of DATA/rejected, by step and reason."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genus.prepare.dataset import read_manifest
from genus.report.rejected import Example, Rule, sample

AHEAD = 12
"""Characters shown before the place where a text was changed."""


def show(path: str | Path, count: int = 3, width: int | None = None) -> str:
    """Up to `count` examples of every step and reason, with source and line, each on lines as wide as the terminal.

    Args:
        width: of a line, in columns; that of the terminal when not given.

    Raises:
        ValueError: not a prepared folder, or `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"--examples {count}: ask for at least one of every rule")
    root = Path(path)
    return examples(root / "rejected", read_manifest(root), count, width) or f"{root}: nothing was put aside"


def examples(rejected: Path, manifest: dict[str, Any], count: int = 3, width: int | None = None) -> str:
    """The same of a folder `rejected`; the manifest says in which order, and how many there are of each kind."""
    width = width or shutil.get_terminal_size().columns
    found = sample(rejected, count)
    lines: list[str] = []
    totals = _totals(manifest)
    order = {entry["step"]: place for place, entry in enumerate(manifest.get("funnel", []))}
    for rule in sorted(found, key=lambda each: (order.get(each.step, -1), each.action, -totals.get(each, 0), each.reason)):
        number = f"{totals[rule]:,} {rule.action}" if rule in totals else rule.action
        lines += ["", f"{rule.step}: {rule.reason} ({number})"]
        for example in found[rule]:
            lines += _example(example, width)
    return "\n".join(lines[1:])


def _totals(manifest: dict[str, Any]) -> dict[Rule, int]:
    """Documents by rule, as the manifest counts them."""
    totals = {
        Rule(entry["step"], action, reason): count
        for entry in manifest.get("funnel", [])
        for action in ("dropped", "changed")
        for reason, count in entry.get(action, {}).items()
    }
    return totals or {Rule("read", "dropped", reason): count for reason, count in manifest.get("drops", {}).items()}


def _example(example: Example, width: int) -> Iterator[str]:
    yield f"  {_cut(one_line(example.place), width - 2, end=True)}"
    if example.after is None:
        if example.before:
            yield f"    {_cut(one_line(example.before), width - 4)}"
        if example.instead is not None:
            yield f"    kept instead: {_cut(one_line(example.instead), width - 18, end=True)}"
        return
    start = max(0, _common(example.before, example.after) - AHEAD)
    for mark, text in (("-", example.before), ("+", example.after)):
        yield f"    {mark} {_cut(('…' if start else '') + one_line(text[start:]), width - 6)}"


def _common(a: str, b: str) -> int:
    """Characters that two texts begin with together."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def one_line(text: str) -> str:
    """A text on one line, without anything that a terminal would obey."""
    return "".join(_visible(character) for character in text.strip("\n"))


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎"
    if character == "\t":
        return " "
    # Control and format characters, lone surrogates, private use: escapes begin there, and so do reversed lines.
    return character if unicodedata.category(character)[0] != "C" else f"\\x{ord(character):02x}"


def _cut(text: str, width: int, end: bool = False) -> str:
    """The beginning of a text that fits into so many columns, or the end; Chinese characters take two."""
    if end:
        return _cut(text[::-1], width)[::-1]
    used = 0
    for place, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 0 if unicodedata.combining(character) else 1
        if used > width:
            return text[: max(0, place - 1)] + "…"
    return text
