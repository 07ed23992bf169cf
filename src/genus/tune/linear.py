"""A linear model on vectors of rows, its regularisation chosen by cross-validation. Needs scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from genus.tune.unsuitable import Unsuitable

FOLDS = 5
ENOUGH = 4 * FOLDS  # rows from which the regularisation is chosen by cross-validation
MANY = 10_000  # rows: cross-validation looks at no more


class Linear:
    """Logistic regression of classes, or ridge regression of numbers; a child says how rows become vectors.

    Class attributes:
        strengths: inverses of the regularisation (C of the logistic regression, 1 / alpha of the ridge) that are tried.
        usual: the one that is taken where there are too few rows to choose.

    Attributes:
        strength: the inverse of the regularisation. chosen: whether by cross-validation. parameters: numbers that were fitted.
    """

    strengths: ClassVar[tuple[float, ...]] = (1e-3, 1e-2, 0.1, 1.0)
    usual: ClassVar[float] = 1e-2

    def __init__(self, numbers: bool = False, seed: int = 0) -> None:
        self.numbers, self.seed = numbers, seed
        self.strength, self.chosen, self.parameters = self.usual, False, 0

    def reader(self, rows: Sequence[Any]) -> Any:
        """What has learnt from these rows how `transform` makes vectors of rows."""
        raise NotImplementedError

    def fit(self, rows: Sequence[Any], targets: Sequence[Any]) -> Linear:
        """Learn from rows and classes, or numbers.

        Raises:
            Unsuitable: scikit-learn is missing, or there is one class only.
        """
        require()
        aims = np.asarray(targets, np.float64 if self.numbers else None)
        if not self.numbers and len(np.unique(aims)) < 2:
            raise Unsuitable("a linear model: the training rows have one class only")
        few = np.random.default_rng(self.seed).permutation(len(aims))[:MANY]
        self.strength, self.chosen = self._choose([rows[i] for i in few], aims[few])
        self._reader = self.reader(rows)
        self.model = self._model(self.strength).fit(self._reader.transform(rows), aims)
        self.parameters = int(np.size(self.model.coef_) + np.size(self.model.intercept_))
        return self

    def predict(self, rows: Sequence[Any]) -> np.ndarray:
        """(N, classes) probabilities in the order of `classes`, or (N,) numbers."""
        x = self._reader.transform(rows)
        return np.asarray(self.model.predict(x) if self.numbers else self.model.predict_proba(x))

    @property
    def classes(self) -> list[Any]:
        """The classes that were learnt, sorted."""
        return list(self.model.classes_)

    def __str__(self) -> str:
        how = "by cross-validation" if self.chosen else "fixed: too few rows to choose"
        name = "ridge regression" if self.numbers else "logistic regression"
        value = f"alpha = {1 / self.strength:g}" if self.numbers else f"C = {self.strength:g}"
        return f"{name}, {value} ({how})"

    def _choose(self, rows: Sequence[Any], aims: np.ndarray) -> tuple[float, bool]:
        """The strength with the fewest errors on held-out folds (ties: log loss), or the lowest squared error.

        Log loss alone chooses too low a strength of few rows, which then all get the commonest class.
        """
        from sklearn.metrics import log_loss
        from sklearn.model_selection import KFold, StratifiedKFold

        folds = FOLDS
        if not self.numbers:
            folds = min(folds, int(np.unique(aims, return_counts=True)[1].min()))
        if len(aims) < ENOUGH or folds < 2:
            return self.usual, False
        splitter = (KFold if self.numbers else StratifiedKFold)(folds, shuffle=True, random_state=self.seed)
        losses = np.zeros((len(self.strengths), 2))
        for train, held in splitter.split(np.zeros(len(aims)), aims):
            reader = self.reader([rows[i] for i in train])
            x, y = (reader.transform([rows[i] for i in part]) for part in (train, held))
            for i, strength in enumerate(self.strengths):
                model = self._model(strength).fit(x, aims[train])
                if self.numbers:
                    losses[i, 0] += float(((model.predict(y) - aims[held]) ** 2).sum())
                else:
                    found = model.predict_proba(y)
                    losses[i, 0] += int((model.classes_[found.argmax(1)] != aims[held]).sum())
                    losses[i, 1] += len(held) * log_loss(aims[held], found, labels=model.classes_)
        return self.strengths[int(np.lexsort(losses.T[::-1])[0])], True

    def _model(self, strength: float) -> Any:
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.numbers:
            return Ridge(alpha=1 / strength, random_state=self.seed)
        return LogisticRegression(C=strength, max_iter=2000, random_state=self.seed)


def require() -> None:
    """Check that scikit-learn is there.

    Raises:
        Unsuitable: it is not; with the extra that brings it.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise Unsuitable("linear models need scikit-learn: pip install 'genus[eval]'") from None


class OnVectors(Linear):
    """A linear model on given vectors, each coordinate brought to mean 0 and variance 1."""

    def reader(self, rows: Sequence[Any]) -> Any:
        from sklearn.preprocessing import StandardScaler

        return StandardScaler().fit(np.asarray(rows))
