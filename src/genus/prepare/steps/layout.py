"""Where the characters, words, lines and paragraphs of a batch of texts lie: what every rule of quality counts.

Everything is found for all texts of a batch at once, in arrays over their UTF-8 bytes. Positions are byte positions in
`Layout.data`, the texts one after the other. The one place that decides what the *units* of a text are: words, or, in a
script written without spaces (Chinese, Japanese, Thai ...), characters.
"""

from __future__ import annotations

import unicodedata
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# Kinds of bytes, in an order that makes each question one comparison. The first byte of a character tells its kind.
INNER, SPACE, BREAK, SYMBOL, DIGIT, LETTER, UNSPACED, HAN = range(8)
_UNDECIDED = 8

CHARACTERS_PER_WORD = 5
"""Letters that carry as much as one character of an unspaced script: the mean length of an English word."""

_UNSPACED_SCRIPTS = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x0F00, 0x10A0),  # Tibetan, Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3040, 0x3130),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x3200),
    (0xFF66, 0xFFA0),
)
_HAN_BLOCKS = ((0x2E80, 0x2FE0), (0x3005, 0x3008), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32400))

STOPS = ".!?。！？｡︒؟۔।॥՞։።፧‼⁇⁈⁉‽"
"""Characters that end a sentence."""
QUOTES = "\"'”’»」』"
"""Quotation marks that may stand after them."""


class Ranges(NamedTuple):
    """Pieces of the texts: bytes `start[i]:end[i]`. Text d has those from number `first[d]` to before `first[d + 1]`."""

    start: np.ndarray
    end: np.ndarray
    first: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """How many each text has."""
        return np.diff(self.first)

    @property
    def text(self) -> np.ndarray:
        """The number of the text each lies in."""
        return np.repeat(np.arange(len(self.first) - 1), self.counts)

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum over every text of a value for each piece: float64 or int64, one per text."""
        sums = np.concatenate([[0], np.cumsum(values)])
        return np.asarray(np.subtract(sums[self.first[1:]], sums[self.first[:-1]]))


class Layout:
    """The layout of a column of texts (large_string without nulls).

    Attributes:
        data: (bytes,) uint8, the texts one after the other. offsets: (texts + 1,) int64, where each begins.
        kinds: (bytes,) uint8. The first byte of a character tells its kind, its other bytes are `INNER`; those of a space
            `SPACE`.
    """

    def __init__(self, column: pa.Array) -> None:
        self.column = column
        self.data, self.offsets = _bytes(column)
        self.kinds = _kinds(self.data)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def count(self, mask: np.ndarray) -> np.ndarray:
        """How many bytes of each text a mask marks: (texts,) int64."""
        ends = self.offsets.tolist()
        return np.array([np.count_nonzero(mask[a:b]) for a, b in pairwise(ends)], dtype=np.int64)

    @cached_property
    def ellipses(self) -> np.ndarray:
        """How many ellipses each text has: three or more full stops, or signs of their own."""
        dots = np.append(self.data == ord("."), [False, False])
        edges = self.offsets[(self.offsets > 0) & (self.offsets < len(self.data))]  # where dots of two texts would run together
        three = dots[:-2] & dots[1:-1] & dots[2:]
        three[edges - 1] = False
        three[np.maximum(edges - 2, 0)] &= edges < 2
        again = np.append(False, dots[:-3])
        again[edges] = False
        three &= ~again
        signs = find(self.data, "…".encode())
        return self.count(three) + np.diff(np.searchsorted(signs, self.offsets))

    @cached_property
    def characters(self) -> np.ndarray:
        """Characters of each text."""
        import pyarrow.compute as pc

        return np.asarray(pc.utf8_length(self.column)).astype(np.int64)

    @cached_property
    def solid(self) -> np.ndarray:
        """Which bytes are not white space."""
        return np.asarray((self.kinds != SPACE) & (self.kinds != BREAK))

    @cached_property
    def visible(self) -> np.ndarray:
        """Characters of each text that are not white space."""
        return self.count(self.kinds >= SYMBOL)

    @cached_property
    def han(self) -> np.ndarray:
        """Chinese characters of each text."""
        return self.count(self.kinds == HAN)

    @cached_property
    def ideographs(self) -> np.ndarray:
        """Characters of each text that belong to a script written without spaces."""
        return self.count(self.kinds >= UNSPACED)

    @cached_property
    def spaced(self) -> np.ndarray:
        """Which texts are written with spaces between words; in the others the unit is the character."""
        letters = self.count(self.kinds == LETTER)
        return np.asarray(self.ideographs * CHARACTERS_PER_WORD <= letters)

    @cached_property
    def chinese(self) -> np.ndarray:
        """Which texts are Chinese: unspaced, and of their characters at most a fifth kana, Thai and the like."""
        return np.asarray(~self.spaced & ((self.ideographs - self.han) * 5 <= self.ideographs))

    @cached_property
    def words(self) -> Ranges:
        """What white space separates, punctuation included. In unspaced texts these are whole clauses."""
        solid = self.solid
        edges = np.flatnonzero(solid[1:] != solid[:-1]) + 1
        inside = np.unique(self.offsets[(self.offsets > 0) & (self.offsets < len(solid))])
        split = np.repeat(inside[solid[inside] & solid[inside - 1]], 2)  # words that touch where texts meet
        edges = np.insert(edges, np.searchsorted(edges, split), split)
        if len(solid):
            edges = np.concatenate([np.flatnonzero(solid[:1]), edges, np.flatnonzero(solid[-1:]) + len(solid)])
        start, end = edges[0::2].copy(), edges[1::2].copy()
        return Ranges(start, end, np.searchsorted(start, self.offsets))

    @cached_property
    def word_kinds(self) -> np.ndarray:
        """The highest kind in each of `words`: one with a letter has at least `LETTER`, pure punctuation `SYMBOL`."""
        if not len(self.words.start):
            return np.zeros(0, dtype=np.uint8)
        return np.maximum.reduceat(self.kinds, self.words.start)

    @cached_property
    def _line_starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Which words begin a line, and how many line breaks (of all texts) stand before each of these."""
        words = self.words
        breaks = np.cumsum(self.kinds == BREAK, dtype=np.int32)[words.start]
        begins = np.ones(len(breaks), dtype=bool)
        begins[1:] = breaks[1:] != breaks[:-1]
        begins[words.first[:-1][words.counts > 0]] = True
        at = np.flatnonzero(begins)
        return at, breaks[at]

    @cached_property
    def lines(self) -> Ranges:
        """Lines that are not blank, without the white space around them."""
        return self._joined(self.words, self._line_starts[0])

    @cached_property
    def line_words(self) -> np.ndarray:
        """How many words each of `lines` has."""
        return np.diff(np.append(self._line_starts[0], len(self.words.start)))

    @cached_property
    def paragraphs(self) -> Ranges:
        """Runs of lines with no blank line between them."""
        lines, breaks = self.lines, self._line_starts[1]
        begins = np.ones(len(breaks), dtype=bool)
        begins[1:] = np.diff(breaks) > 1
        begins[lines.first[:-1][lines.counts > 0]] = True
        return self._joined(lines, np.flatnonzero(begins))

    def _joined(self, pieces: Ranges, at: np.ndarray) -> Ranges:
        """Pieces put together to larger ones, which begin at the pieces numbered `at`."""
        start, end = pieces.start[at], pieces.end[np.append(at, len(pieces.start))[1:] - 1]
        return Ranges(start, end, np.searchsorted(start, self.offsets))

    @cached_property
    def _inner(self) -> np.ndarray:
        return np.flatnonzero((self.data & 0xC0) == 0x80)

    def lengths(self, ranges: Ranges) -> np.ndarray:
        """Characters of each range."""
        inner = np.searchsorted(self._inner, ranges.end) - np.searchsorted(self._inner, ranges.start)
        return np.asarray(ranges.end - ranges.start - inner)

    @cached_property
    def line_units(self) -> np.ndarray:
        """Units of each of `lines`: its words, or, in an unspaced text, its characters of such a script."""
        spaced, lines = self.spaced[self.lines.text], self.lines
        if spaced.all():
            return self.line_words
        marks = np.flatnonzero(self.kinds >= UNSPACED)
        return np.where(spaced, self.line_words, np.searchsorted(marks, lines.end) - np.searchsorted(marks, lines.start))

    def first(self, starts: np.ndarray) -> np.ndarray:
        """The code points of the characters that begin at `starts`."""
        return code_points(self.data, starts)

    def last(self, ends: np.ndarray) -> np.ndarray:
        """The code points of the characters that end at `ends`."""
        at = ends - 1
        for _ in range(3):
            at = np.where((self.data[at] & 0xC0) == 0x80, at - 1, at)
        return code_points(self.data, at)

    def break_off(self, ranges: Ranges) -> np.ndarray:
        """Which ranges end in an ellipsis: three full stops, or its sign."""
        dots = ranges.end - ranges.start >= 3
        for back in (1, 2, 3):
            dots &= self.data[np.maximum(ranges.end - back, 0)] == ord(".")
        return np.asarray(dots | (self.last(ranges.end) == ord("…")))

    def without(self, gone: np.ndarray) -> list[str | None]:
        """Every text without some of its `lines`, None for those that lose none. The blank lines before a lost line stay.

        Args:
            gone: (lines,) bool.
        """
        lines = self.lines
        lost = lines.total(gone)
        texts: list[str | None] = [None] * len(self)
        stays = np.ones(len(self.data), dtype=bool)
        until = np.append(lines.start[1:], len(self.data))
        ends = self.offsets[1:][lines.text]
        until = np.minimum(until, ends)
        for start, end in zip(lines.start[gone].tolist(), until[gone].tolist()):
            stays[start:end] = False
        for i in np.flatnonzero(lost).tolist():
            a, b = self.offsets[i], self.offsets[i + 1]
            text = self.data[a:b][stays[a:b]].tobytes().decode()
            texts[i] = text.rstrip() if gone[lines.first[i + 1] - 1] else text
        return texts


def code_points(data: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The code points of the characters whose first bytes are at the positions `at`: int32. `data` is valid UTF-8."""
    end = len(data) - 1
    first = data[at].astype(np.int32)
    result = first.copy()
    for size, low, mask in ((2, 0xC0, 0x1F), (3, 0xE0, 0x0F), (4, 0xF0, 0x07)):
        chosen = np.flatnonzero(first >= low)
        if not len(chosen):
            break
        value = first[chosen] & mask
        for i in range(1, size):
            value = (value << 6) | (data[np.minimum(at[chosen] + i, end)] & 0x3F)
        result[chosen] = value
    return np.asarray(result)


def find(data: np.ndarray, text: bytes) -> np.ndarray:
    """Where a string of bytes stands."""
    at = np.flatnonzero(data[: len(data) - len(text) + 1] == text[0]) if len(data) >= len(text) else np.zeros(0, dtype=np.int64)
    for i in range(1, len(text)):
        at = at[data[at + i] == text[i]]
    return at


def one_of(points: np.ndarray, characters: str) -> np.ndarray:
    """Which code points are among some characters."""
    return np.isin(points, np.array([ord(c) for c in characters], dtype=np.int32))


def _bytes(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a large_string column, and where every text begins in them."""
    _, where, data = column.buffers()
    if data is None or not len(column):
        return np.zeros(0, dtype=np.uint8), np.zeros(len(column) + 1, dtype=np.int64)
    offsets = np.frombuffer(where, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]], offsets - offsets[0]


def kind(character: str) -> int:
    """What a character is to the rules: white space, a sign, a digit, a letter, or a letter of an unspaced script."""
    point, category = ord(character), unicodedata.category(character)
    if character == "\n":
        return BREAK
    if character.isspace():
        return SPACE
    if category[0] in "LM" or category == "Nl":
        if any(low <= point < high for low, high in _HAN_BLOCKS):
            return HAN
        return UNSPACED if any(low <= point < high for low, high in _UNSPACED_SCRIPTS) else LETTER
    return DIGIT if category[0] == "N" else SYMBOL


@cache
def _tables() -> tuple[bytes, np.ndarray]:
    """The kind of every byte (where it alone decides), and of every character of the basic plane."""
    plane = np.array([SYMBOL if 0xD800 <= point < 0xE000 else kind(chr(point)) for point in range(0x10000)], dtype=np.uint8)
    table = plane[:256].copy()
    table[0x80:0xC0] = INNER
    table[0xC0:] = _UNDECIDED
    table[0xE5:0xEA] = HAN  # U+5000 to U+9FFF
    return table.tobytes(), plane


def _kinds(data: np.ndarray) -> np.ndarray:
    table, plane = _tables()
    kinds = np.frombuffer(bytearray(data.tobytes().translate(table)), dtype=np.uint8)
    at = np.flatnonzero(kinds == _UNDECIDED)
    if not len(at):
        return kinds
    points = code_points(data, at)
    found = plane[np.minimum(points, 0xFFFF)]
    beyond = np.flatnonzero(points > 0xFFFF)
    if len(beyond):
        unique, which = np.unique(points[beyond], return_inverse=True)
        found[beyond] = np.array([kind(chr(point)) for point in unique.tolist()], dtype=np.uint8)[which]
    kinds[at] = found
    space = at[found == SPACE]
    kinds[space + 1] = SPACE
    kinds[space[data[space] >= 0xE0] + 2] = SPACE
    return kinds
