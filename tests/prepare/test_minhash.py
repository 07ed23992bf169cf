from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from genus.prepare import minhash
from genus.prepare.minhash import band_hashes, bands_for, chance, permutations, signatures, similarity


def pairs_of_sets(count: int, size: int, common: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    left = rng.integers(0, 2**64, (count, size), dtype=np.uint64)
    right = left.copy()
    right[:, common:] = rng.integers(0, 2**64, (count, size - common), dtype=np.uint64)
    return left, right


def test_bands_follow_from_the_threshold():
    assert bands_for(0.8, 112) == (14, 8)  # FineWeb's
    for threshold in (0.3, 0.5, 0.7, 0.9):
        bands, rows = bands_for(threshold, 112)
        assert bands * rows <= 112
        assert chance(threshold, bands, rows) >= 0.9 > chance(threshold, 112 // (rows + 1), rows + 1)
    assert bands_for(0.01, 16) == (16, 1)


@pytest.mark.parametrize("common", [60, 80, 90])
def test_documents_are_found_as_often_as_the_curve_says(common):
    left, right = pairs_of_sets(2000, 100, common)
    jaccard = common / (200 - common)
    bands, rows = bands_for(0.8, 112)
    functions = permutations(bands * rows, seed=3)
    offsets = np.arange(2001) * 100
    a, b = (signatures(sets.ravel(), offsets, functions) for sets in (left, right))
    found = (band_hashes(a, bands, rows) == band_hashes(b, bands, rows)).any(axis=0).mean()
    assert found == pytest.approx(chance(jaccard, bands, rows), abs=0.04)
    assert (a == b).mean() == pytest.approx(jaccard, abs=0.01)
    assert similarity(a.astype(np.uint8), b.astype(np.uint8)).mean() == pytest.approx(jaccard, abs=0.01)


def test_signatures_are_the_minima_of_the_functions(monkeypatch):
    monkeypatch.setattr(minhash, "BLOCK", 7)  # documents across blocks, and several in one
    rng = np.random.default_rng(0)
    sizes = [1, 30, 2, 3, 14, 1, 9]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    shingles = rng.integers(0, 2**64, offsets[-1], dtype=np.uint64)
    functions = permutations(5, seed=1)
    found = signatures(shingles, offsets, functions)
    for i, (one, two) in enumerate(pairwise(offsets)):
        high = [int(value) >> 32 for value in shingles[one:two]]
        assert found[i].tolist() == [min((int(a) * x + int(b)) % 2**32 for x in high) for a, b in zip(*functions)]


def test_the_seed_draws_the_functions():
    assert np.array_equal(permutations(8, 1), permutations(8, 1))
    assert not np.array_equal(permutations(8, 1), permutations(8, 2))
    assert (permutations(64, 1)[0] % 2 == 1).all()
