"""What a law misses: errors of its form, alike at neighbouring sizes, larger far below the top and far from the best size.

A fit that takes the residuals of a law for independent noise is certain of exponents that the next budget refutes: the residuals
of published tables are smooth in size and data, since it is the form that is wrong. Here they are a Gaussian process added to the
law (Kennedy & O'Hagan 2001, "Bayesian calibration of computer models"; universal kriging), so that many points of one place count
little more than one, and what the law misses at the largest budgets is carried a little beyond them and then forgotten.

Legend: n fitted rows, m asked rows, c coordinates (size, data), p parameters of a law, f features, d draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from genus.plan.table import Array, Runs

NEAR = 0.03  # relative excess over the best loss of the same compute at which a row counts half
FEATURES = 100  # random Fourier features of a draw (Rahimi & Recht 2007)


def excess(runs: Runs, tolerance: float = 0.28) -> Array:
    """(n,) how far each loss is above the best of its compute (and `tolerance` more), or of less, as a share of it.

    With a column of unique tokens only runs on as little data are compared.
    """
    order = np.argsort(runs.compute, kind="stable")
    compute, loss = runs.compute[order], runs.loss[order]
    reach = np.searchsorted(compute, compute * (1 + tolerance), side="right")
    out = np.empty(len(runs))
    if runs.unique is None or (runs.tokens <= runs.unique * 1.001).all():
        best = np.minimum.accumulate(loss)[reach - 1]
    else:
        unique = runs.unique[order]
        best = np.array([loss[:r][unique[:r] <= 1.1 * u].min() for u, r in zip(unique, reach)])
    out[order] = loss / best - 1
    return out


@dataclass(frozen=True)
class Setting:
    """Size of the discrepancy.

    amplitude: its standard deviation (in log loss) at the top of the fitted compute. length: over how many e-folds of size or
    data it stays alike. memory: e-folds of compute below the top at which its variance has doubled. noise: of one run (the seed).
    """

    amplitude: float
    length: float
    memory: float
    noise: float


class Field:
    """The discrepancy over the rows of a table, under one setting."""

    def __init__(self, x_NC: Array, depth: Array, excess: Array, setting: Setting) -> None:
        """x_NC: centred logarithms of the columns of the law. depth: (n,) e-folds of compute below the top."""
        self.x_NC, self.setting = x_NC, setting
        far = (excess / NEAR) ** 2
        self.scale_N = setting.amplitude * np.sqrt(1 + (depth / setting.memory) ** 2 + far)
        self.noise_N = setting.noise * np.sqrt(1 + far)
        K_NN = self.scale_N[:, None] * self.scale_N * self._alike(x_NC)
        K_NN[np.diag_indices(len(x_NC))] += self.noise_N**2
        lower = np.linalg.cholesky(K_NN)
        self.white_NN = np.linalg.inv(lower)
        self.logdet = 2 * float(np.log(np.diag(lower)).sum())

    def _alike(self, x_MC: Array) -> Array:
        square = sum((x_MC[:, i, None] - self.x_NC[:, i]) ** 2 for i in range(x_MC.shape[1]))
        return np.exp(-0.5 * square / self.setting.length**2)

    def cross(self, x_MC: Array) -> Array:
        """(m, n) covariance of the discrepancy at new rows with the fitted ones."""
        return self.setting.amplitude * self.scale_N * self._alike(x_MC)

    def solve(self, r_N: Array) -> Array:
        """Inverse covariance times residuals (n,) or (n, d)."""
        return self.white_NN.T @ (self.white_NN @ r_N)

    def features(self, rng: np.random.Generator) -> Mapping[str, Array]:
        """Frequencies and phases of random functions with this covariance."""
        return {
            "frequency": rng.normal(size=(FEATURES, self.x_NC.shape[1])) / self.setting.length,
            "phase": rng.uniform(0, 2 * np.pi, FEATURES),
        }


def waves(x_MC: Array, features: Mapping[str, Array]) -> Array:
    """(m, f): a random function of variance 1 is these times standard normal weights."""
    return np.sqrt(2 / FEATURES) * np.cos(x_MC @ features["frequency"].T + features["phase"])
