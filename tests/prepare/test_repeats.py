from __future__ import annotations

import numpy as np
import pytest

from genus.prepare.repeats import EACH, came_before


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_every_hash_but_the_first_of_its_kind_came_before(tmp_path, parts):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2**64, 2000, dtype=np.uint64)
    arrays = [kinds[rng.integers(0, 2000, size)] for size in (700, 0, 1, 2500, 300)]
    everything = np.concatenate(arrays).tolist()
    seen: set[int] = set()
    expected = [value in seen or seen.add(value) is not None for value in everything]
    found = list(came_before(arrays, tmp_path, memory=len(everything) * EACH // parts))
    assert [len(mask) for mask in found] == [len(array) for array in arrays]
    assert np.concatenate(found).tolist() == expected
    assert not list(tmp_path.iterdir())


def test_nothing(tmp_path):
    assert list(came_before([], tmp_path)) == []
    assert [mask.tolist() for mask in came_before([np.zeros(0, dtype=np.uint64)], tmp_path)] == [[]]
