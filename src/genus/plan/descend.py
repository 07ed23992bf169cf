"""Down to the bottom of one valley: L-BFGS-B, then Newton steps until the gradient vanishes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genus.plan.table import Array

Objective = Callable[[Array], tuple[float, Array]]
Curvature = Callable[[Array], Array]

GOOD = 1e-9  # largest slope at which polishing stops
STEPS = 60  # of Newton at most
SETTLING = 12  # more, across the valley only
STIFF = 1e-9  # of the largest curvature: less is along the valley


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


def polish(objective: Objective, curvature: Curvature, start: Array, low: Array, high: Array) -> tuple[Array, float, float]:
    """Newton steps inside a trust region, the last ones only across the valley.

    The Huber objective is piecewise smooth: with a small delta it is nearly a sum of absolute values, on which L-BFGS-B gains
    its last digits slowly and Newton ends in a few steps once it knows which rows are inside delta. Where the data leave a
    direction open, the valley is flat and bent, and steps along it would leave its floor: they are left out at the end.

    Returns:
        Point, value, and the largest entry of the projected gradient.
    """
    point = np.clip(start, low, high)
    value, gradient = objective(point)
    slope = projected(point, gradient, low, high)
    radius = 1.0
    for attempt in range(STEPS + SETTLING):
        norm = np.abs(slope).max(initial=0.0)
        if norm <= GOOD:
            break
        free = np.flatnonzero(slope)
        values, vectors = np.linalg.eigh(curvature(point)[np.ix_(free, free)])
        settling = attempt >= STEPS or radius < 1e-9
        if settling and attempt < STEPS:
            radius = 1.0
        moved = False
        while radius > 1e-9 and not moved:
            step = np.zeros_like(point)
            step[free] = _step(values, vectors, slope[free], radius, STIFF if settling else 0.0)
            trial = np.clip(point + step, low, high)
            trial_value, trial_gradient = objective(trial)
            trial_slope = projected(trial, trial_gradient, low, high)
            flatter = np.abs(trial_slope).max(initial=0.0) < norm and trial_value <= value + 1e-13 * abs(value)
            if flatter or (trial_value < value and not settling):
                point, value, slope, moved = trial, trial_value, trial_slope, True
                radius = min(3 * radius, 1.0)
            else:
                radius /= 4
        if settling and not moved:
            break
    return point, float(value), float(np.abs(slope).max(initial=0.0))


def _step(values: Array, vectors: Array, slope: Array, radius: float, stiff: float) -> Array:
    """Newton's step, or the best within the radius; a direction of negative curvature is followed downhill."""
    bend = np.abs(values)
    along = np.where(bend >= stiff * bend.max(), vectors.T @ slope, 0.0)
    bend = np.maximum(bend, 1e-14)
    damping = 0.0
    if np.linalg.norm(along / bend) > radius:
        low, high = 0.0, float(np.linalg.norm(along) / radius)
        for _ in range(50):
            damping = (low + high) / 2
            low, high = (damping, high) if np.linalg.norm(along / (bend + damping)) > radius else (low, damping)
        damping = high
    return -vectors @ (along / (bend + damping))
