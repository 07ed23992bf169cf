"""Down to the bottom of one valley: L-BFGS-B, then damped Newton steps until the gradient vanishes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from genus.plan.table import Array

Objective = Callable[[Array], tuple[float, Array]]

GOOD = 1e-9  # norm of the projected gradient at which polishing stops
STEPS = 100  # of Newton at most


def descend(objective: Objective, start: Array, low: Array, high: Array) -> tuple[Array, float]:
    """L-BFGS-B from `start`. Returns the point and its value."""
    from scipy.optimize import minimize

    done = minimize(
        objective,
        np.clip(start, low, high),
        jac=True,
        method="L-BFGS-B",
        bounds=np.column_stack([low, high]),
        options={"maxiter": 500, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-9, "maxls": 40},
    )
    return done.x, float(done.fun)


def projected(point: Array, gradient: Array, low: Array, high: Array) -> Array:
    """The gradient without what a bound holds."""
    held = ((point <= low) & (gradient > 0)) | ((point >= high) & (gradient < 0))
    return np.where(held, 0.0, gradient)


def polish(objective: Objective, start: Array, low: Array, high: Array) -> tuple[Array, float, float]:
    """Newton steps with Levenberg-Marquardt damping, the Hessian from differences of the gradient.

    The Huber objective is piecewise smooth: with a small delta it is nearly a sum of absolute values, on which L-BFGS-B gains
    its last digits slowly and Newton ends in a few steps once it knows which rows are inside delta.

    Returns:
        Point, value, and the largest entry of the projected gradient.
    """
    point = np.clip(start, low, high)
    value, gradient = objective(point)
    damping, slope = 1e-3, projected(point, gradient, low, high)
    for _ in range(STEPS):
        norm = np.abs(slope).max(initial=0.0)
        if norm <= GOOD:
            break
        free = np.flatnonzero(slope)
        curvature = _hessian(objective, point, free, low, high)
        moved = False
        while damping < 1e12 and not moved:
            diagonal = np.maximum(np.abs(np.diag(curvature)), 1e-8)
            values, vectors = np.linalg.eigh(curvature + damping * np.diag(diagonal))
            along = vectors.T @ slope[free]
            step = np.zeros_like(point)
            # a direction of negative curvature is followed downhill
            step[free] = -vectors @ (along / np.maximum(np.abs(values), 1e-12))
            trial = np.clip(point + np.clip(step, -1.0, 1.0), low, high)
            trial_value, trial_gradient = objective(trial)
            trial_slope = projected(trial, trial_gradient, low, high)
            flat = trial_value <= value + 1e-14 * abs(value) and np.abs(trial_slope).max(initial=0.0) < norm
            if trial_value < value or flat:
                point, value, slope, moved = trial, trial_value, trial_slope, True
                damping = max(damping / 10, 1e-15)
            else:
                damping *= 10
        if not moved:
            break
        damping = min(damping, 1e3)
    return point, float(value), float(np.abs(slope).max(initial=0.0))


def _hessian(objective: Objective, point: Array, free: NDArray[np.intp], low: Array, high: Array) -> Array:
    rows = []
    for i in free:
        step = np.zeros_like(point)
        step[i] = 1e-6 * max(1.0, abs(point[i]))
        ahead, behind = np.minimum(point + step, high), np.maximum(point - step, low)
        rows.append((objective(ahead)[1][free] - objective(behind)[1][free]) / (ahead[i] - behind[i]))
    matrix = np.array(rows)
    return (matrix + matrix.T) / 2
