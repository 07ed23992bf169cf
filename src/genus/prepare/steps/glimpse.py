"""A bounded part of a text, for what need not read all of it."""

from __future__ import annotations

SPAN = 150
"""Characters taken at the beginning, in the middle and at the end."""


def glimpse(text: str) -> str:
    """The text itself, or of a long one three pieces of `SPAN` characters each, joined by spaces."""
    if len(text) <= 3 * SPAN:
        return text
    middle = (len(text) - SPAN) // 2
    return f"{text[:SPAN]} {text[middle : middle + SPAN]} {text[-SPAN:]}"
