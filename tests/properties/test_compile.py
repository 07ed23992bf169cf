"""What torch.compile makes of an update: one graph, so that a GPU is given whole updates and not pieces of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genus import recipes
from genus.objectives.batch import Batch
from genus.recipes.sizes import takes


@pytest.mark.parametrize(("name", "documents"), [("gpt2", False), ("llama", False), ("llama", True), ("deltanet", True)])
def test_the_loss_is_one_graph(name: str, documents: bool) -> None:
    """`fullgraph` refuses every break; traced for a second update of the same shape it is not traced again."""
    torch.compiler.reset()
    wanted = {"dim": 32, "depth": 2, "heads": 2, "vocab": 61, "context": 32, "dropout": 0.1}
    recipe: Any = recipes.make(name, **{key: value for key, value in wanted.items() if key in takes(recipes.find(name))})
    model = recipe.model.build(0).train()
    ids = torch.randint(1, 61, (2, 24))
    doc = torch.tensor([[0] * 9 + [1] * 15, [2] * 20 + [-1] * 4]) if documents else None
    graphs = []

    def count(graph: Any, example: Any) -> Any:
        graphs.append(graph)
        return graph

    loss = torch.compile(recipe.objective.loss, fullgraph=True, backend=count)
    for move in (1, 2):
        batch = Batch(ids.roll(move, 1), ids.roll(move - 1, 1), doc)
        found, targets = loss(model, batch, None, torch.bfloat16)
        found.backward()
        assert found.isfinite() and int(targets) > 0
    assert len(graphs) == 1
    assert all(p.grad is not None for p in model.parameters())
