"""Two versions of a text as HTML, with what differs marked."""

from __future__ import annotations

from difflib import SequenceMatcher
from html import escape

LONG = 2000
"""Characters beyond which only the middle, between a common beginning and a common end, is marked."""


def marked(before: str, after: str) -> tuple[str, str]:
    """Both texts, escaped, the differing parts inside <mark>."""
    if max(len(before), len(after)) > LONG:
        start, end = _common(before, after)
        return _around(before, start, end), _around(after, start, end)
    old, new = [], []
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        same = kind == "equal"
        old.append(_mark(before[a:b], same))
        new.append(_mark(after[c:d], same))
    return "".join(old), "".join(new)


def _mark(text: str, same: bool) -> str:
    return escape(text) if same or not text else f"<mark>{escape(text)}</mark>"


def _around(text: str, start: int, end: int) -> str:
    last = len(text) - end
    return escape(text[:start]) + _mark(text[start:last], False) + escape(text[last:])


def _common(a: str, b: str) -> tuple[int, int]:
    """Characters that two texts begin and end with together."""
    most = min(len(a), len(b))
    start = next((i for i in range(most) if a[i] != b[i]), most)
    end = next((i for i in range(most - start) if a[-1 - i] != b[-1 - i]), most - start)
    return start, end
