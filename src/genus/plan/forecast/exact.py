"""A counted model of the whole corpus that was counted already: nothing of it is left to foretell.

What a count gives follows from the text alone, without a seed. Where the small runs reach the whole corpus, the loss there is the
measured one; beyond it (were there more text) the forecast goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genus.plan.forecast.forecaster import Band, Forecast
from genus.plan.table import Array

NEARLY = 1e-6  # of the tokens
ROUNDING = 1e-3  # to either side of a measured loss: what is added up in another order, or on another machine


@dataclass(frozen=True)
class Exact:
    """A forecast in one variable that passes through a measurement. `loss` was measured at `tokens`."""

    forecast: Forecast
    tokens: float
    loss: float

    def predict(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Band:
        band, shift, at = self.forecast.predict(params, tokens, unique=unique), self._shift(tokens), self._at(tokens)
        loss = np.where(at, self.loss, band.loss * shift)
        low, high = loss * (1 - ROUNDING), loss * (1 + ROUNDING)
        return Band(loss, np.where(at, low, band.low * shift), np.where(at, high, band.high * shift))

    def draws(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Array:
        found: Array = np.where(
            self._at(tokens), self.loss, self.forecast.draws(params, tokens, unique=unique) * self._shift(tokens)
        )
        return found

    def deviation(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Array:
        found: Array = np.where(self._at(tokens), 0.0, self.forecast.deviation(params, tokens, unique=unique))
        return found

    def ratio(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return self.forecast.ratio(params, tokens)

    def _at(self, tokens: ArrayLike) -> NDArray[np.bool_]:
        return np.asarray(np.abs(np.asarray(tokens, np.float64) / self.tokens - 1) <= NEARLY)

    def _shift(self, tokens: ArrayLike) -> Array:
        """Factor on the forecast: at the measurement and beyond it what the forecast misses there."""
        missed = self.loss / float(self.forecast.predict(1.0, self.tokens, unique=self.tokens).loss)
        found: Array = np.where(np.asarray(tokens, np.float64) >= self.tokens * (1 - NEARLY), missed, 1.0)
        return found
