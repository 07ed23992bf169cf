"""Where a fit starts: variable projection on a grid (Golub & Pereyra 1973).

For fixed exponents the loss is linear in its coefficients, which non-negative least squares finds at once; so a grid over the
exponents alone shows the valleys of the whole objective.

g grid points, n rows, k columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from genus.plan.forms import Form, Logs
from genus.plan.table import Array

ROUNDS = 6  # of reweighting, which turns least squares into least absolute residuals
CHUNK = 400_000  # numbers of a basis held at once
TRIED = 150  # grid points whose true objective is looked at
APART = 0.3  # in the logarithm of a searched number: nearer points lie in one valley


def starts(
    form: Form,
    x: Logs,
    pivot: Mapping[str, float],
    loss: Array,
    weights: Array,
    delta: float,
    constrain: Callable[[Array], Array],
    objective: Callable[[Array], float],
    fixed: Mapping[str, float],
    most: int,
) -> list[Array]:
    """Coordinates (p,) of up to `most` different valleys, best first.

    Args:
        constrain: puts fixed and tied coordinates to their values. objective: of coordinates; smaller is better.
    """
    theta = _grid(form, fixed)
    coefficients, error = _project(form, theta, x, pivot, loss, weights, delta)
    smallest = 1e-4 * loss.mean()
    found: dict[bytes, tuple[float, Array]] = {}
    for i in np.argsort(error, kind="stable"):
        floor, rest = coefficients[i, :1], np.maximum(coefficients[i, 1:], smallest)
        u = constrain(form.assemble(theta[i], np.concatenate([floor, rest])))
        if u.tobytes() not in found:
            value = objective(u)
            found[u.tobytes()] = (value if np.isfinite(value) else np.inf, u)
        if len(found) >= TRIED:
            break
    shape = slice(len(form.coefficients), None)
    chosen: list[Array] = []
    for _, u in sorted(found.values(), key=lambda pair: pair[0]):
        if all(np.abs(u[shape] - other[shape]).max(initial=0.0) > APART for other in chosen):
            chosen.append(u)
        if len(chosen) == most:
            break
    return chosen


def _grid(form: Form, fixed: Mapping[str, float]) -> Array:
    """(g, searched): every combination; a fixed exponent has one value."""
    names = [p.name for p in form.exponents]
    axes = [(fixed[n],) if n in fixed else axis for n, axis in itertools.zip_longest(names, form.grid())]
    return np.array(list(itertools.product(*axes)))


def _project(
    form: Form, theta: Array, x: Logs, pivot: Mapping[str, float], loss: Array, weights: Array, delta: float
) -> tuple[Array, Array]:
    """(g, k) coefficients of least absolute relative residuals (least squares where delta is infinite), and that error (g,)."""
    coefficients, errors = [], []
    step = max(1, CHUNK // (len(loss) * 4))
    for start in range(0, len(theta), step):
        columns = form.basis(theta[start : start + step], x, pivot) / loss[:, None]
        rows = np.broadcast_to(weights, columns.shape[:2])
        for _ in range(ROUNDS if np.isfinite(delta) else 1):
            c = nonnegative(columns, rows)
            residuals = np.abs(np.einsum("gnk,gk->gn", columns, c) - 1)
            rows = weights / np.maximum(residuals, delta if np.isfinite(delta) else 1.0)
        coefficients.append(c)
        errors.append((weights * (residuals if np.isfinite(delta) else residuals**2)).sum(1))
    return np.concatenate(coefficients), np.concatenate(errors)


def nonnegative(columns: Array, weights: Array) -> Array:
    """(g, k) non-negative combinations of columns (g, n, k) nearest to 1, with weights (g, n), by trying every support."""
    weighted = columns * weights[:, :, None]
    gram = np.einsum("gnk,gnj->gkj", weighted, columns)
    right = weighted.sum(1)
    size = np.sqrt(np.maximum(np.einsum("gkk->gk", gram), 1e-300))
    gram, right = gram / (size[:, :, None] * size[:, None, :]), right / size
    k = columns.shape[2]
    best, gain = np.zeros_like(right), np.full(len(right), -np.inf)
    for support in itertools.product((True, False), repeat=k):
        index = np.flatnonzero(support)
        if not len(index):
            continue
        square = gram[:, index[:, None], index] + 1e-12 * np.eye(len(index))
        c = np.linalg.solve(square, right[:, index, None])[..., 0]
        explained = np.where((c >= 0).all(1), (c * right[:, index]).sum(1), -np.inf)
        better = explained > gain
        gain[better] = explained[better]
        best[better] = 0
        best[np.ix_(better, index)] = c[better]
    return best / size
