"""The rules of C4 (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", JMLR 21:140, section 2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.prepare.steps.layout import QUOTES, STOPS, Layout, find, one_of
from genus.prepare.steps.step import Function, Outcome, Step, follow, keep, replace_text

if TYPE_CHECKING:
    import pyarrow as pa

PHRASES = (
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
    "隐私政策",
    "隱私政策",
    "使用条款",
    "使用條款",
    "版权所有",
    "版權所有",
)
CITATION = re.compile(r"\[(?:\d*|edit|citation needed|编辑|編輯|来源请求|來源請求)\]", re.I)
_WIDE_STOPS = ("。".encode(), "！".encode(), "？".encode(), "｡".encode())


@dataclass(frozen=True)
class C4(Step):
    """Keep the lines that are sentences, drop pages with too few of them (the rules of C4).

    Blank lines between the lines that are left stay. C4 also drops pages with a word from a list of bad words; train a
    classifier for that. Chinese full stops and phrases count like the English ones.

    Attributes:
        sentences: least number of sentences in a document, once lines have been removed.
        words, characters: least number of words in a line; of characters, in a text written without spaces.
        word_length: a line with a longer word is removed.
        terminal: whether a line must end in a full stop, question mark, exclamation mark or quotation mark, and not in an
            ellipsis.
        citations: whether marks such as [1] and [edit] are removed.
        brackets: whether a document with a curly bracket in a line that is left is dropped, as program text.
        phrases: a line with one of these is removed. placeholders: a document with one of these is dropped. Both in small
            letters.
    """

    NAME: ClassVar[str] = "c4"

    sentences: int = 5
    words: int = 3
    characters: int = 5
    word_length: int = 1000
    terminal: bool = True
    citations: bool = True
    brackets: bool = True
    phrases: tuple[str, ...] = PHRASES
    placeholders: tuple[str, ...] = ("lorem ipsum",)

    def ready(self) -> Function:
        return self._judge

    def _judge(self, batch: pa.RecordBatch) -> Outcome:
        cited, column = self._without_citations(batch.column("text"))
        layout = Layout(column)
        lines = layout.lines
        few = layout.line_units < np.where(layout.spaced, self.words, self.characters)[lines.text]
        unfinished = np.zeros(len(few), dtype=bool)
        if self.terminal:
            unfinished = ~one_of(layout.last(lines.end), STOPS + QUOTES) | layout.break_off(lines)
        long = self._long(layout)
        gone = few | unfinished | long
        told, reasons = self._phrases(layout, gone)
        counts: dict[str, int | float] = {
            "lines with a long word": int(long.sum()),
            "lines without a final stop": int((unfinished & ~long).sum()),
            "short lines": int((few & ~unfinished & ~long).sum()),
            "lines with a phrase": int(told.sum()),
        }
        gone |= told
        remaining = lines.total(np.where(gone, 0, np.maximum(sentences(layout), 1)))
        for i in np.flatnonzero(remaining < self.sentences).tolist():
            reasons[i] = reasons[i] or "too few sentences"
        dropped = np.array([reason is not None for reason in reasons], dtype=bool)
        texts = layout.without(gone & ~dropped[lines.text])
        told_why = ["citations removed" if text is None else "lines removed" for text in texts]
        texts = [cited[i] if text is None else text for i, text in enumerate(texts)]
        left = [i for i, reason in enumerate(reasons) if reason is None]
        return follow(
            keep(batch, reasons, counts=counts),
            lambda rest: replace_text(rest, [texts[i] for i in left], [told_why[i] for i in left]),
        )

    def _without_citations(self, column: pa.Array) -> tuple[list[str | None], pa.Array]:
        """The texts that hold citation marks without them (None for the others), and the whole column."""
        import pyarrow as pa
        import pyarrow.compute as pc

        cited: list[str | None] = [None] * len(column)
        if self.citations:
            for i in np.flatnonzero(np.asarray(pc.match_substring_regex(column, f"(?i){CITATION.pattern}"))).tolist():
                cited[i] = CITATION.sub("", column[i].as_py())
        if not any(text is not None for text in cited):
            return cited, column
        texts = [text if new is None else new for text, new in zip(column.to_pylist(), cited)]
        return cited, pa.array(texts, type=pa.large_string())

    def _long(self, layout: Layout) -> np.ndarray:
        """Which lines have a word longer than allowed, in texts with spaces."""
        words, lines = layout.words, layout.lines
        long = np.flatnonzero(words.end - words.start > self.word_length)
        long = long[layout.spaced[words.text[long]]]
        result = np.zeros(len(lines.start), dtype=bool)
        if len(long):
            some = words._replace(start=words.start[long], end=words.end[long])
            start = some.start[layout.lengths(some) > self.word_length]
            result[np.searchsorted(lines.start, start, side="right") - 1] = True
        return result

    def _phrases(self, layout: Layout, gone: np.ndarray) -> tuple[np.ndarray, list[str | None]]:
        """Which of the lines that are left hold a phrase, and which documents are dropped for what such a line holds."""
        import pyarrow.compute as pc

        told = np.zeros(len(gone), dtype=bool)
        reasons: list[str | None] = [None] * len(layout)
        wanted = [*self.phrases, *self.placeholders, *(["{"] if self.brackets else [])]
        if not wanted:
            return told, reasons
        pattern = "(?i)" + "|".join(map(re.escape, wanted))
        lines = layout.lines
        for i in np.flatnonzero(np.asarray(pc.match_substring_regex(layout.column, pattern))).tolist():
            for j in range(lines.first[i], lines.first[i + 1]):
                if gone[j]:
                    continue
                line = layout.data[lines.start[j] : lines.end[j]].tobytes().decode().lower()
                if any(each in line for each in self.placeholders):
                    reasons[i] = "placeholder text"
                elif any(each in line for each in self.phrases):
                    told[j] = True
                elif self.brackets and "{" in line:
                    reasons[i] = "curly bracket"
                if reasons[i]:
                    break
        return told, reasons


def sentences(layout: Layout) -> np.ndarray:
    """How many sentences end in each line of the batch: (lines,) int64.

    One ends where a word ends in a stop (perhaps with a quotation mark or bracket) and the next does not begin with a small
    letter, and at every full stop of Chinese.
    """
    data, words, lines = layout.data, layout.words, layout.lines
    last, before = data[words.end - 1], data[np.maximum(words.end - 2, words.start)]
    stops = np.frombuffer(b".!?", dtype=np.uint8)
    ended = np.isin(last, stops) | (np.isin(before, stops) & np.isin(last, np.frombuffer(b"\"')]", dtype=np.uint8)))
    small = (data[words.start] >= ord("a")) & (data[words.start] <= ord("z"))
    small[np.searchsorted(words.start, lines.start)] = False  # a line ends a sentence
    ended[:-1] &= ~small[1:]
    wide = [find(data, stop) for stop in _WIDE_STOPS]
    places = np.sort(np.concatenate([words.start[ended], *wide]))
    return np.searchsorted(places, lines.end) - np.searchsorted(places, lines.start)
