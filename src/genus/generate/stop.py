"""Stop strings: end a text before a string, though it may come in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class Stop:
    """Reads a text in pieces of any size and lets through what cannot be part of a stop string.

    The text ends at the stop string that is complete first, and before its first character (of two that end together, before the
    longer), so the result does not depend on how the text was cut into pieces.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if "" in strings:
            raise ValueError("a stop string must not be empty")
        self._strings = tuple(strings)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """The text that is now certain to come before any stop string."""
        if self.found is not None or not self._strings:
            return "" if self._strings else piece
        text = self._held + piece
        ends = [(at + len(s), at, s) for s in self._strings if (at := text.find(s)) >= 0]
        if ends:
            _, at, self.found = min(ends)
            self._held = ""
            return text[:at]
        keep = max(self._overlap(text, s) for s in self._strings)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The text still held back, when no more is to come."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, string: str) -> int:
        """Length of the longest end of `text` that begins `string`."""
        longest = min(len(string) - 1, len(text))
        return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
