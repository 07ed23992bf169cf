"""Scores against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genus.tune import metrics


def test_classification() -> None:
    p = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]
    scores = metrics.classification(p, [0, 1, 1, 1], 2)
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert scores["ece"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.3) / 4)  # each in a bin of its own
    assert scores["loss"] == pytest.approx(-(math.log(0.9) + math.log(0.2) + math.log(0.6) + math.log(0.7)) / 4)
    assert math.isnan(metrics.classification([], [], 2)["accuracy"])
    assert metrics.confusion([0, 0, 1], [0, 1, 1], 2).tolist() == [[1, 0], [1, 1]]


def test_a_class_that_neither_occurs_nor_is_said_does_not_count() -> None:
    assert metrics.classification([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], [0, 1], 3)["macro_f1"] == 1.0


def test_reliability_puts_together_what_is_equally_sure() -> None:
    sure, right = np.array([0.91, 0.93, 0.95, 1.0, 0.5]), np.array([True, False, True, True, False])
    bins = metrics.reliability(sure, right, 10)
    assert [n for _, _, n in bins] == [1, 4] and bins[1][:2] == (pytest.approx(0.9475), 0.75)
    assert metrics.calibration_error(sure, right, 10) == pytest.approx((0.5 + 4 * 0.1975) / 5)


def test_regression() -> None:
    scores = metrics.regression([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    assert scores["rmse"] == pytest.approx(math.sqrt(1 / 3)) and scores["spearman"] == pytest.approx(1)
    assert scores["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1]) and scores["r2"] == pytest.approx(0.5)
    assert metrics.regression([2.0, 2.0], [1.0, 3.0])["pearson"] == 0
