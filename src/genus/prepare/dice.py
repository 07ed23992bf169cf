"""Dice that the hash of a document throws, so that what falls out depends on the document and the seed and on nothing else."""

from __future__ import annotations

import numpy as np


def scrambled(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Uniform uint64 again, independent for every seed: the output function of splitmix64 (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        z = numbers + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
