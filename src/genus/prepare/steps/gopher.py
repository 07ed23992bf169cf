"""The quality rules of Gopher (Rae et al. 2021, "Scaling Language Models", arXiv:2112.11446, appendix A.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.prepare.steps.layout import DIGIT, LETTER, Layout, one_of
from genus.prepare.steps.rules import decide, holds_words, share
from genus.prepare.steps.step import Function, Outcome, Step

if TYPE_CHECKING:
    import pyarrow as pa

STOP_WORDS = ("the", "of", "and", "to", "that", "with", "be", "have")
BULLETS = "•‣⁃◦▪●○■□▶*-"


@dataclass(frozen=True)
class Gopher(Step):
    """Drop texts of odd length, of odd words, or full of symbols (Gopher's quality rules).

    The rules about words are for texts written with spaces; those without have theirs in the step "chinese". The rule about
    English words is for English, and for texts in the Latin alphabet of which no language is known.

    Attributes:
        minimum_words, maximum_words: how long a document may be.
        minimum_word_length, maximum_word_length: the mean number of letters and digits in a word.
        symbols: most hash signs, and most ellipses, per word.
        bullets, ellipses: largest shares of lines that begin with a bullet point, and that end in an ellipsis.
        alphabetic: least share of words with a letter in them.
        stop_words: how many of eight common English words must occur.
    """

    NAME: ClassVar[str] = "gopher"

    minimum_words: int = 50
    maximum_words: int = 100_000
    minimum_word_length: float = 3.0
    maximum_word_length: float = 10.0
    symbols: float = 0.1
    bullets: float = 0.9
    ellipses: float = 0.3
    alphabetic: float = 0.8
    stop_words: int = 2

    def ready(self) -> Function:
        return self._judge

    def _judge(self, batch: pa.RecordBatch) -> Outcome:
        layout = Layout(batch.column("text"))
        spaced, pieces, lines = layout.spaced, layout.words, layout.lines
        words = pieces.total(layout.word_kinds >= DIGIT)
        units = np.where(spaced, words, layout.ideographs)
        length = share(layout.count(layout.kinds >= DIGIT), words)
        lettered = share(pieces.total(layout.word_kinds >= LETTER), pieces.counts)
        bulleted = one_of(layout.first(lines.start), BULLETS)
        english = spaced & is_english(batch, layout)
        return decide(
            batch,
            [
                ("too few words", spaced & (words < self.minimum_words)),
                ("too many words", spaced & (words > self.maximum_words)),
                ("short words", spaced & (length < self.minimum_word_length)),
                ("long words", spaced & (length > self.maximum_word_length)),
                ("many hash signs", share(layout.count(layout.data == ord("#")), units) > self.symbols),
                ("many ellipses", share(layout.ellipses, units) > self.symbols),
                ("mostly bullet points", share(lines.total(bulleted), lines.counts) > self.bullets),
                ("lines that break off", share(lines.total(layout.break_off(lines)), lines.counts) > self.ellipses),
                ("few words with letters", spaced & (lettered < self.alphabetic)),
                ("no English function words", english & ~holds_words(layout.column, STOP_WORDS, self.stop_words, english)),
            ],
        )


def is_english(batch: pa.RecordBatch, layout: Layout) -> np.ndarray:
    """Which documents are English: those of that language, or, where none is known, those mostly in letters from a to z."""
    import pyarrow.compute as pc

    language = batch.column("language")
    basic = layout.count((layout.kinds == LETTER) & (layout.data < 128))
    latin = basic * 2 > layout.count(layout.kinds == LETTER)
    english = np.asarray(pc.fill_null(pc.equal(language, "en"), False))
    return np.where(np.asarray(pc.is_null(language)), latin, english)
