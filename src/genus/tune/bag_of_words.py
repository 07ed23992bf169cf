"""Bag of words: TF-IDF of n-grams, and a linear model on it (Joachims 1998; Wang & Manning 2012). Needs scikit-learn.

What order and context give a network must show as a difference from this.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genus.tune.linear import MANY, Linear
from genus.tune.unsuitable import Unsuitable

UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters: scripts that put no space between words."""

MIXED = 0.1  # share of letters of such scripts from which a text is cut into characters
SAMPLE = 1_000_000  # characters that the share is measured on at most
MOST = 300_000  # features

Texts = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Grams:
    """How texts are cut: `analyzer` "word" or "char", n-grams of `low` to `high`; `share` of the letters are unspaced."""

    analyzer: str
    low: int
    high: int
    share: float

    @classmethod
    def measure(cls, texts: Texts) -> Grams:
        """Words where spaces part them, characters where they do not, or not always."""
        letters = unspaced = 0
        for row in texts:
            for text in row:
                letters += sum(map(str.isalpha, text))
                unspaced += len(UNSPACED.findall(text))
            if letters > SAMPLE:
                break
        share = min(1.0, unspaced / max(1, letters))
        return cls("char", 1, 3, share) if share >= MIXED else cls("word", 1, 2, share)

    def __str__(self) -> str:
        unit = "characters" if self.analyzer == "char" else "words"
        return f"{self.low} to {self.high} {unit} ({self.share:.0%} of the letters stand in a script without spaces)"


class BagOfWords(Linear):
    """A linear model on TF-IDF vectors of texts, one or two a row.

    Of two texts it sees the n-grams of each, and those that both have.

    Attributes:
        grams: how texts are cut.
    """

    strengths = (1.0, 10.0, 100.0, 1000.0)
    usual = 100.0

    grams: Grams

    def fit(self, rows: Texts, targets: Sequence[Any]) -> BagOfWords:
        """Learn from texts and classes, or numbers.

        Raises:
            ValueError: scikit-learn is missing, there is one class only, or no text has a word.
        """
        self.grams = Grams.measure(rows)
        super().fit(rows, targets)
        return self

    def reader(self, rows: Texts) -> _Cut:
        return _Cut(self.grams, len(rows)).fit(rows)

    def __str__(self) -> str:
        return f"TF-IDF of {self.grams}; {super().__str__()}"


class _Cut:
    """Rows of one or two texts to sparse vectors."""

    def __init__(self, grams: Grams, rows: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(
            analyzer=grams.analyzer,
            ngram_range=(grams.low, grams.high),
            token_pattern=r"(?u)\b\w+\b|[^\w\s]",  # marks say something too, and so does "I"
            sublinear_tf=True,
            min_df=2 if rows > MANY else 1,
            max_features=MOST,
            strip_accents=None,
        )

    def fit(self, texts: Texts) -> _Cut:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a token pattern that characters do not need
                self.vectorizer.fit([text for row in texts for text in row])
        except ValueError as error:
            raise Unsuitable(f"bag of words: the training rows hold no words ({error})") from None
        return self

    def transform(self, texts: Texts) -> Any:
        from scipy.sparse import hstack

        columns = [self.vectorizer.transform(column) for column in zip(*texts, strict=True)]
        if len(columns) == 2:
            columns.append(columns[0].multiply(columns[1]))
        return hstack(columns, format="csr")
