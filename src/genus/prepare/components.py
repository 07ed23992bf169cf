"""Connected components of a graph that comes in portions: which documents are linked by a chain of duplicates."""

from __future__ import annotations

import numpy as np


class Components:
    """Nodes 0 .. count - 1, at first each by itself. It takes 8 bytes a node and what one portion of edges needs.

    Attributes:
        labels: (count,) int64, the smallest node of every node's component.
    """

    def __init__(self, count: int) -> None:
        self.labels = np.arange(count, dtype=np.int64)

    def join(self, left: np.ndarray, right: np.ndarray) -> None:
        """Add the edges left[i] - right[i]."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        left, right = self.labels[left], self.labels[right]
        apart = left != right
        if not apart.any():
            return
        ends = np.concatenate([left[apart], right[apart]])
        nodes, places = np.unique(ends, return_inverse=True)
        edges = len(ends) // 2
        graph = coo_array((np.ones(edges, dtype=np.int8), (places[:edges], places[edges:])), shape=(len(nodes), len(nodes)))
        _, component = connected_components(graph, directed=False)
        _, first = np.unique(component, return_index=True)  # nodes are sorted, so the first is the smallest
        self.labels[nodes] = nodes[first][component]
        self.labels = self.labels[self.labels]
