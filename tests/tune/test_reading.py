"""What reads a whole text."""

from __future__ import annotations

import pytest

from genus.parts.task_head import Pool, TaskHead, Vectors
from genus.recipes import make
from genus.tune.reading import text_head


@pytest.mark.parametrize(
    ("head", "pool"),
    [
        (Vectors(Pool(), take="mean", unit=True), Pool("mean", dense=False)),
        (Vectors(Pool()), Pool()),
        (TaskHead(5, Pool("max", dense=False)), Pool("max", dense=False)),
        (TaskHead(5, None), Pool()),
    ],
)
def test_a_pool_that_is_stated_or_was_learnt_with_is_kept(head: Vectors | TaskHead, pool: Pool) -> None:
    model = make("bert", dim=16, depth=1, heads=2, vocab=20, context=8).model
    assert text_head(model, 3) == text_head(model.replace(head=Vectors()), 3) == TaskHead(3, Pool(), dropout=0.1)
    assert text_head(model.replace(head=head), 3) == TaskHead(3, pool, dropout=0.1)
