"""Bag of words: TF-IDF of n-grams, and a linear model on it (Joachims 1998; Wang & Manning 2012). Needs scikit-learn.

What order and context give a network must show as a difference from this.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters: scripts that put no space between words."""

MIXED = 0.1  # share of letters of such scripts from which a text is cut into characters
SAMPLE = 1_000_000  # characters that the share is measured on at most
FOLDS = 5
ENOUGH = 4 * FOLDS  # rows from which the regularisation is chosen by cross-validation
MANY = 10_000  # rows: cross-validation looks at no more, and n-grams that come once are dropped
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # C of the logistic regression, 1 / alpha of the ridge
USUAL = 100.0  # where there are too few rows to choose
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


class BagOfWords:
    """A linear model on TF-IDF vectors: logistic regression of classes, ridge regression of numbers.

    Of two texts it sees the n-grams of each, and those that both have.

    Attributes:
        grams: how texts are cut. strength: inverse of the regularisation. chosen: whether by cross-validation.
        parameters: numbers that were fitted.
    """

    def __init__(self, numbers: bool = False, seed: int = 0) -> None:
        self.numbers, self.seed = numbers, seed
        self.grams: Grams
        self.strength, self.chosen, self.parameters = USUAL, False, 0

    def fit(self, texts: Texts, targets: Sequence[Any]) -> BagOfWords:
        """Learn from texts (one or two a row) and classes, or numbers.

        Raises:
            ValueError: scikit-learn is missing, there is one class only, or no text has a letter.
        """
        require()
        aims = np.asarray(targets, np.float64 if self.numbers else None)
        if not self.numbers and len(np.unique(aims)) < 2:
            raise ValueError("bag of words: the training rows have one class only")
        self.grams = Grams.measure(texts)
        few = np.random.default_rng(self.seed).permutation(len(aims))[:MANY]
        self.strength, self.chosen = self._choose([texts[i] for i in few], aims[few])
        self.cut, self.model = self._fitted(texts, aims, self.strength)
        self.parameters = int(np.size(self.model.coef_) + np.size(self.model.intercept_))
        return self

    def predict(self, texts: Texts) -> np.ndarray:
        """(N, classes) probabilities in the order of `classes`, or (N,) numbers."""
        x = self.cut.transform(texts)
        return np.asarray(self.model.predict(x) if self.numbers else self.model.predict_proba(x))

    @property
    def classes(self) -> list[Any]:
        """The classes that were learnt, sorted."""
        return list(self.model.classes_)

    def __str__(self) -> str:
        how = "by cross-validation" if self.chosen else "fixed: too few rows to choose"
        name = "ridge regression" if self.numbers else "logistic regression"
        value = f"alpha = {1 / self.strength:g}" if self.numbers else f"C = {self.strength:g}"
        return f"TF-IDF of {self.grams}; {name}, {value} ({how})"

    def _choose(self, texts: Texts, aims: np.ndarray) -> tuple[float, bool]:
        """The strength with the fewest errors on held-out folds (ties: log loss), or the lowest squared error.

        Log loss alone chooses too low a strength of few rows, which then all get the commonest class.
        """
        from sklearn.metrics import log_loss
        from sklearn.model_selection import KFold, StratifiedKFold

        folds = FOLDS
        if not self.numbers:
            folds = min(folds, int(np.unique(aims, return_counts=True)[1].min()))
        if len(aims) < ENOUGH or folds < 2:
            return USUAL, False
        splitter = (KFold if self.numbers else StratifiedKFold)(folds, shuffle=True, random_state=self.seed)
        losses = np.zeros((len(STRENGTHS), 2))
        for train, held in splitter.split(np.zeros(len(aims)), aims):
            cut = _Cut(self.grams, len(train)).fit([texts[i] for i in train])
            x, y = cut.transform([texts[i] for i in train]), cut.transform([texts[i] for i in held])
            for i, strength in enumerate(STRENGTHS):
                model = self._model(strength).fit(x, aims[train])
                if self.numbers:
                    losses[i, 0] += float(((model.predict(y) - aims[held]) ** 2).sum())
                else:
                    found = model.predict_proba(y)
                    losses[i, 0] += int((model.classes_[found.argmax(1)] != aims[held]).sum())
                    losses[i, 1] += len(held) * log_loss(aims[held], found, labels=model.classes_)
        return STRENGTHS[int(np.lexsort(losses.T[::-1])[0])], True

    def _fitted(self, texts: Texts, aims: np.ndarray, strength: float) -> tuple[_Cut, Any]:
        cut = _Cut(self.grams, len(aims)).fit(texts)
        return cut, self._model(strength).fit(cut.transform(texts), aims)

    def _model(self, strength: float) -> Any:
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.numbers:
            return Ridge(alpha=1 / strength, random_state=self.seed)
        return LogisticRegression(C=strength, max_iter=2000, random_state=self.seed)


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
            raise ValueError(f"bag of words: the training rows hold no words ({error})") from None
        return self

    def transform(self, texts: Texts) -> Any:
        from scipy.sparse import hstack

        columns = [self.vectorizer.transform(column) for column in zip(*texts, strict=True)]
        if len(columns) == 2:
            columns.append(columns[0].multiply(columns[1]))
        return hstack(columns, format="csr")


def require() -> None:
    """Check that scikit-learn is there.

    Raises:
        ValueError: it is not; with the extra that brings it.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise ValueError("the bag of words needs scikit-learn: pip install 'genus[eval]'") from None
