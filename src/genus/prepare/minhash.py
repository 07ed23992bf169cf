"""MinHash signatures and their bands: documents with many shingles in common get equal bands.

Broder 1997, "On the resemblance and containment of documents"; banding: Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", section 3.4.
"""

from __future__ import annotations

import numpy as np

from genus.prepare.steps.keys import mix

FOUND = 0.9
"""Chance with which a pair that is just as similar as the threshold is to be found."""
BLOCK = 2**16
"""Shingles hashed at a time."""


def chance(similarity: float, bands: int, rows: int) -> float:
    """Probability that two documents of this similarity have a band in common: 1 - (1 - s^r)^b."""
    return float(1 - (1 - similarity**rows) ** bands)


def bands_for(threshold: float, hashes: int) -> tuple[int, int]:
    """(bands, rows of each), with bands x rows <= hashes: the steepest curve that finds pairs at the threshold.

    0.8 with 112 hashes gives the 14 bands of 8 rows of FineWeb (Penedo et al. 2024).
    """
    for rows in range(hashes, 1, -1):
        if chance(threshold, hashes // rows, rows) >= FOUND:
            return hashes // rows, rows
    return hashes, 1


def permutations(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers (odd) and summands of `count` hash functions x -> a x + b modulo 2^32, which permute the 32-bit numbers."""
    drawn = np.random.default_rng(seed).integers(0, 2**32, size=(2, count), dtype=np.uint32)
    return drawn[0] | np.uint32(1), drawn[1]


def signatures(shingles: np.ndarray, offsets: np.ndarray, functions: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The smallest value of every hash function over the shingles of every document.

    Args:
        shingles: (m,) uint64 hashes; those of document i are offsets[i] .. offsets[i + 1] - 1, at least one.
        offsets: (n + 1,) int64.

    Returns:
        (n, functions) uint32.
    """
    smallest = np.full((len(functions[0]), len(offsets) - 1), 2**32 - 1, dtype=np.uint32)
    for start in range(0, len(shingles), BLOCK):
        block = (shingles[start : start + BLOCK] >> np.uint64(32)).astype(np.uint32)
        one = int(np.searchsorted(offsets, start, side="right")) - 1
        two = int(np.searchsorted(offsets, start + len(block), side="left"))
        begins = np.maximum(offsets[one:two] - start, 0)
        values = np.empty_like(block)
        for into, a, b in zip(smallest[:, one:two], *functions, strict=True):
            np.multiply(block, a, out=values)
            np.add(values, b, out=values)
            np.minimum(into, np.minimum.reduceat(values, begins), out=into)
    return smallest.T


def band_hashes(signed: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """(bands, n) uint64: one hash for every band of every signature."""
    parts = signed[:, : bands * rows].reshape(len(signed), bands, rows).astype(np.uint64)
    sums = np.zeros(parts.shape[:2], dtype=np.uint64)
    for row in range(rows):
        sums = mix(sums, parts[:, :, row])
    return np.ascontiguousarray(sums.T)


def similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of pairs, from the lowest byte of their signatures (n, functions) uint8.

    Bytes agree by chance once in 256 (Li and König 2010, "b-bit minwise hashing").
    """
    equal = (left == right).mean(axis=1)
    return (equal - 1 / 256) / (1 - 1 / 256)
