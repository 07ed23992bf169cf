"""Numbers: the read-out begins at their mean and speaks in their units."""

from __future__ import annotations

import math

import pytest
import torch

from genus.tune.tasks.regression import Regression, as_number

TASK = Regression(mean=1990.0, spread=20.0)


def test_an_untrained_model_says_about_the_mean(bert, gpt) -> None:
    for base in (bert, gpt):
        model = base.model(TASK.head(base.recipe.model), 0).eval()
        TASK.begin(model)
        batch = TASK.objective.batch(TASK.examples([{"text": "a good film", "label": 2000}], base.tokenizer, 64))
        with torch.no_grad():
            (said,) = TASK.outputs(model, batch)
        assert abs(said - 1990) < 60
        loss, count = TASK.objective.loss(model, batch)
        assert loss.item() == pytest.approx(0.5 * ((said - 2000) / 20) ** 2, rel=1e-4) and int(count) == 1


def test_rows_without_a_number() -> None:
    assert TASK.problem({"text": "a", "label": "many"}) == "label 'many' is not a number"
    assert TASK.problem({"text": "a", "label": ""}) == "empty label" and TASK.problem({"text": "a"}, labelled=False) is None
    assert as_number("nan") is None and as_number(True) is None and as_number(" 3.5 ") == 3.5
    scores = TASK.score([1.0, 2.0, None], [{"label": 1}, {"label": 4}, {"label": 9}])
    assert scores["rmse"] == pytest.approx(math.sqrt(2)) and scores["loss"] == pytest.approx(0.5 * 2 / 400)
