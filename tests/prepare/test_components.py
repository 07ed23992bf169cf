from __future__ import annotations

import numpy as np

from genus.prepare.components import Components


def test_edges_in_portions_give_the_components_of_all():
    rng = np.random.default_rng(0)
    edges = rng.integers(0, 300, (180, 2))
    expected = list(range(300))  # by hand: spread the smallest label until nothing changes
    while True:
        before = list(expected)
        for a, b in edges.tolist():
            expected[a] = expected[b] = min(expected[a], expected[b])
        if before == expected:
            break
    components = Components(300)
    for start in range(0, 180, 25):
        components.join(*edges[start : start + 25].T)
    assert components.labels.tolist() == expected
    assert 10 < len(set(expected)) < 290


def test_no_edges():
    components = Components(3)
    components.join(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    components.join(np.array([1]), np.array([1]))
    assert components.labels.tolist() == [0, 1, 2]
