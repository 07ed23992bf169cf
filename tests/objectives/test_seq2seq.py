"""Pairs of different lengths as one batch, and their loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from genus import recipes
from genus.objectives.seq2seq import PairRows, Seq2Seq
from genus.ops.cross_entropy import IGNORE

BOS = EOS = 0


@pytest.fixture
def rows() -> PairRows:
    sources = [np.array([5, 6, EOS]), np.array([7, 8, 9, 10, EOS])]
    targets = [np.array([3, 4, 2, EOS]), np.array([1, EOS])]
    return PairRows(sources, targets, BOS)


@pytest.fixture
def model() -> Any:
    return recipes.make("transformer", dim=16, depth=1, heads=2, vocab=12).model.build(0).eval()


def test_batch(rows: PairRows) -> None:
    batch = Seq2Seq().batch(rows)
    assert batch.inputs.tolist() == [[BOS, 3, 4, 2], [BOS, 1, EOS, 0]]
    assert batch.targets.tolist() == [[3, 4, 2, EOS], [1, EOS, IGNORE, IGNORE]]
    assert batch.source is not None and batch.source.tolist() == [[5, 6, EOS, 0, 0], [7, 8, 9, 10, EOS]]
    assert batch.source_doc is not None and batch.source_doc.tolist() == [[0, 0, 0, -1, -1], [0] * 5]
    assert batch.count == 6 and batch.doc is None


def test_equal_sources_need_no_mask(rows: PairRows) -> None:
    assert Seq2Seq().batch(PairRows([rows.sources[0]] * 2, rows.targets, BOS)).source_doc is None


def test_a_batch_is_its_pairs(rows: PairRows, model: Any) -> None:
    """Filling rows up changes no loss."""
    objective = Seq2Seq()
    together, count = objective.loss(model, objective.batch(rows))
    alone = [
        objective.loss(model, objective.batch(PairRows([s], [t], BOS)))[0]
        for s, t in zip(rows.sources, rows.targets, strict=True)
    ]
    assert int(count) == 6
    torch.testing.assert_close(together, sum(alone))


def test_smoothing_only_while_training(rows: PairRows, model: Any) -> None:
    batch = Seq2Seq().batch(rows)
    plain, smooth = Seq2Seq(), Seq2Seq(label_smoothing=0.1)
    assert smooth.loss(model, batch)[0] == plain.loss(model, batch)[0]
    model.train()
    hidden = model.hidden(batch.inputs, source=batch.source, source_doc=batch.source_doc)
    log_p = model.head(hidden).log_softmax(-1)
    expected = 0.9 * plain.loss(model, batch)[0] - 0.1 * log_p.mean(-1)[batch.targets != IGNORE].sum()
    torch.testing.assert_close(smooth.loss(model, batch)[0], expected)


def test_impossible_smoothing() -> None:
    with pytest.raises(ValueError, match=r"0\.1 is usual"):
        Seq2Seq(label_smoothing=1.0)
