"""The repetition rules of Gopher (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1, table A1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from genus.prepare.steps.keys import alike, at_most, hashes, mix
from genus.prepare.steps.layout import Layout, Ranges
from genus.prepare.steps.rules import decide, share
from genus.prepare.steps.step import Function, Outcome, Step

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Repetition(Step):
    """Drop texts that say the same again and again (Gopher's repetition rules).

    Each threshold is the largest share that a document may have. Lines and paragraphs are counted in every text, runs of words in
    texts written with spaces; the step "chinese" has a rule for the others. What stands in several repeated runs counts once.

    Attributes:
        lines, paragraphs: of lines, and of paragraphs, that stood before in the document.
        line_characters, paragraph_characters: of characters in such lines and paragraphs.
        top: of characters in the most frequent run of 2, 3 and 4 words.
        runs: of characters in runs of 5, 6, ... 10 words that stood before.
    """

    NAME: ClassVar[str] = "repetition"

    lines: float = 0.30
    line_characters: float = 0.20
    paragraphs: float = 0.30
    paragraph_characters: float = 0.20
    top: tuple[float, ...] = (0.20, 0.18, 0.16)
    runs: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)

    def ready(self) -> Function:
        return self._judge

    def _judge(self, batch: pa.RecordBatch) -> Outcome:
        layout = Layout(batch.column("text"))
        rules = []
        for name, pieces, most, most_characters in (
            ("paragraphs", layout.paragraphs, self.paragraphs, self.paragraph_characters),
            ("lines", layout.lines, self.lines, self.line_characters),
        ):
            again = repeated(layout, pieces)
            within = pieces.total(again * layout.lengths(pieces))
            rules.append((f"repeated {name}", share(pieces.total(again), pieces.counts) > most))
            rules.append((f"repeated {name}", share(within, layout.characters) > most_characters))
        limits = (*self.top, *self.runs)
        for found in runs(layout, layout.words, limits, len(self.top)):
            frequent = found.size < 2 + len(self.top)
            within = np.minimum(found.most_frequent(), layout.characters) if frequent else found.covered()
            reason = "one phrase again and again" if frequent else "repeated phrases"
            rules.append((reason, layout.spaced & (share(within, layout.characters) > limits[found.size - 2])))
        return decide(batch, rules)


def repeated(layout: Layout, pieces: Ranges) -> np.ndarray:
    """Which pieces stood before in the same text: (pieces,) bool."""
    keys = hashes(layout.data, pieces.start, pieces.end) ^ salts(pieces)
    found, first = alike(keys, np.arange(len(keys)))
    again = np.zeros(len(keys), dtype=bool)
    again[found[~first]] = True
    return again


def salts(pieces: Ranges) -> np.ndarray:
    """A number for every piece that only those of the same text share: uint64."""
    numbers = np.arange(len(pieces.first) - 1, dtype=np.uint64)
    return np.repeat(mix(numbers, numbers), pieces.counts)


class Runs(NamedTuple):
    """Runs of `size` words that occur at least twice in one text, those that are alike beside each other and in order.

    `at`: the number of the first word of each. `begins`: which is the first of its like.
    """

    layout: Layout
    words: Ranges
    size: int
    at: np.ndarray
    begins: np.ndarray

    @property
    def text(self) -> np.ndarray:
        """The text that each lies in."""
        return np.searchsorted(self.words.first, self.at, side="right") - 1

    def most_frequent(self) -> np.ndarray:
        """Characters in all occurrences of the most frequent run of each text; of equally frequent ones the longest."""
        first = np.flatnonzero(self.begins)
        number = np.diff(np.append(first, len(self.at)))
        length = self._lengths(self.words.start[self.at[first]], self.words.end[self.at[first] + self.size - 1])
        best = np.zeros(len(self.layout), dtype=np.int64)
        np.maximum.at(best, self.text[first], number << 32 | length)
        return (best >> 32) * (best & 0xFFFFFFFF)

    def covered(self) -> np.ndarray:
        """Characters of each text that lie in a run which stood before."""
        at = np.sort(self.at[~self.begins])
        start, end = self.words.start[at], self.words.end[at + self.size - 1]
        if len(at):
            start[1:] = np.minimum(np.maximum(start[1:], end[:-1]), end[1:])
        text = np.searchsorted(self.words.first, at, side="right") - 1
        return np.bincount(text, weights=self._lengths(start, end), minlength=len(self.layout))

    def _lengths(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return self.layout.lengths(Ranges(start, end, np.zeros(0, dtype=np.int64)))


def runs(layout: Layout, words: Ranges, limits: Sequence[float], top: int) -> Iterator[Runs]:
    """The repeated runs of 2, 3, ... words in texts written with spaces, a size for every limit.

    A run can only be repeated where both runs one word shorter are. Of the first `top` sizes, only those of texts are found
    in which the most frequent run may hold more than the limit, so that few have to be sorted.
    """
    text = np.repeat(np.arange(len(layout)), words.counts)
    word = hashes(layout.data, words.start, words.end) ^ mix(text.astype(np.uint64), text.astype(np.uint64))
    key = word.copy()
    last = words.first[1:][text]  # where the text of every word ends
    inside = np.zeros(len(word) + 1, dtype=bool)
    at = np.flatnonzero(layout.spaced[text])
    for size, limit in enumerate(limits, start=2):
        at = at[at + size <= last[at]]
        longer = mix(key[at], word[at + size - 1])
        number = at_most(longer)
        at, longer, number = (each[number > 1] for each in (at, longer, number))
        chosen = np.ones(len(at), dtype=bool)
        if size < 2 + top:
            most = np.zeros(len(layout), dtype=np.int64)
            np.maximum.at(most, text[at], number * (words.end[at + size - 1] - words.start[at]))
            chosen = (most > limit * layout.characters)[text[at]]
        yield Runs(layout, words, size, *alike(longer[chosen], at[chosen]))
        key[at] = longer
        inside[:] = False
        inside[at] = True
        at = np.flatnonzero(inside[:-1] & inside[1:])
