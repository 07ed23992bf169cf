"""Scores against values worked out by hand."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import numpy as np
import pytest

from genus.tune import metrics
from genus.tune.metrics import ClassCounts, Counts, NumberCounts
from genus.tune.tasks.questions import QuestionAnswering
from genus.tune.tasks.tagging import EntityCounts
from genus.tune.writing import Written, WrittenCounts


def test_classification() -> None:
    p = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]
    scores = ClassCounts.of(p, [0, 1, 1, 1], 2).scores()
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert scores["ece"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.3) / 4)  # each in a bin of its own
    assert scores["loss"] == pytest.approx(-(math.log(0.9) + math.log(0.2) + math.log(0.6) + math.log(0.7)) / 4)
    assert math.isnan(ClassCounts.of([], [], 2).scores()["accuracy"])
    assert metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist() == [[1, 0], [1, 1]]


def test_a_class_that_neither_occurs_nor_is_said_does_not_count() -> None:
    assert ClassCounts.of([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], [0, 1], 3).scores()["macro_f1"] == 1.0


def test_reliability_puts_together_what_is_equally_sure() -> None:
    sure, right = np.array([0.91, 0.93, 0.95, 1.0, 0.5]), np.array([True, False, True, True, False])
    table = metrics.binned(sure, right, 10)
    bins = metrics.reliability(table)
    assert [n for _, _, n in bins] == [1, 4] and bins[1][:2] == (pytest.approx(0.9475), 0.75)
    assert metrics.calibration_error(table) == pytest.approx((0.5 + 4 * 0.1975) / 5)


def test_regression() -> None:
    scores = NumberCounts.of([1.0, 2.0, 4.0], [1.0, 2.0, 3.0], 2.0).scores()
    assert scores["rmse"] == pytest.approx(math.sqrt(1 / 3)) and scores["spearman"] == pytest.approx(1)
    assert scores["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1]) and scores["r2"] == pytest.approx(0.5)
    assert scores["loss"] == pytest.approx(1 / 24)
    assert NumberCounts.of([2.0, 2.0], [1.0, 3.0]).scores()["pearson"] == 0


def test_parts_of_the_rows_give_the_scores_of_all() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.dirichlet([0.5] * 4, 60), rng.integers(0, 4, 60)
    x, y = rng.normal(size=60), rng.normal(size=60)
    tags = [[("O", "B-A", "I-A", "B-B")[i] for i in rng.integers(0, 4, 7)] for _ in range(120)]
    texts = [Written(float(n), 1, 3, "a b c"[: n % 6]) for n in range(60)]
    answers = [("in the house"[: n % 13], 0, 0.5) for n in range(60)]
    rows = [{"context": "in the house", "question": "where?", "answers": "the house"}] * 60
    kinds: list[Callable[[slice], Counts]] = [
        lambda s: ClassCounts.of(p[s].tolist(), t[s].tolist(), 4),
        lambda s: NumberCounts.of(x[s].tolist(), y[s].tolist(), 2.0),
        lambda s: EntityCounts.of(tags[:60][s], tags[60:][s]),
        lambda s: WrittenCounts.of(texts[s], ["a b"] * len(texts[s])),
        lambda s: QuestionAnswering().counts(answers[s], rows[s]),
    ]
    for counts in kinds:
        whole, parts = counts(slice(60)), [counts(slice(a, b)) for a, b in ((0, 7), (7, 8), (8, 8), (8, 60))]
        assert functools.reduce(operator.add, parts).scores() == pytest.approx(whole.scores())
        assert whole.scores() != pytest.approx(parts[0].scores(), nan_ok=True)


def test_entities_are_those_of_seqeval() -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score

    rng = np.random.default_rng(1)
    said, there = ([[("O", "B-A", "I-A", "B-B", "I-B")[i] for i in rng.integers(0, 5, 9)] for _ in range(40)] for _ in range(2))
    scores = EntityCounts.of(said, there).scores()
    assert scores["precision"] == pytest.approx(precision_score(there, said)) and 0 < scores["f1"] < 1
    assert scores["recall"] == pytest.approx(recall_score(there, said)) and scores["f1"] == pytest.approx(f1_score(there, said))
