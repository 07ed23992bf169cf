"""A fit learns, keeps its best weights, and goes on after an interruption as if there had been none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from genus.objectives.labelled import Labelled
from genus.run import Run
from genus.train.trainer import Trainer
from genus.tune.base import Base
from genus.tune.defaults import pace
from genus.tune.examples import Examples
from genus.tune.fitting import fit, predict
from genus.tune.methods import Frozen, Full
from genus.tune.options import TuneOptions
from genus.tune.tasks.classification import Classification
from genus.tune.tasks.questions import QuestionAnswering
from genus.tune.tasks.regression import Regression
from genus.tune.tasks.tagging import Tagging

from .conftest import GOOD, reviews

TASK = Classification(labels=("neg", "pos"))
FAST = TuneOptions(epochs=12, lr=5e-3, batch=16, dropout=0.0, dtype="fp32")


def _encoded(base: Base, task, rows) -> Examples:
    return Examples.encode(task, rows, base.tokenizer, 64, base.types)


@pytest.mark.parametrize("kind", ["bert", "gpt"])
def test_a_class_is_learnt(kind: str, request: pytest.FixtureRequest) -> None:
    base = request.getfixturevalue(kind)
    train, valid, test = (_encoded(base, TASK, reviews(n, seed)) for n, seed in ((120, 1), (30, 2), (60, 3)))
    fitted = fit(base, TASK, train, valid, Full(), FAST, seed=0)
    predictions, rows = predict(fitted.model, TASK, base, test)
    scores = TASK.score(predictions, rows)
    assert (
        scores["accuracy"] > 0.95
        and fitted.score > 0.95
        and fitted.trainable == base.spec(TASK.head(base.recipe.model)).parameters()
    )
    assert fitted.best <= fitted.pace.updates == 90 and fitted.history[-1]["step"] <= 90
    assert TASK.render(predictions[0])["prediction"] == rows[0]["label"]


def test_numbers_and_tags_are_learnt(bert: Base) -> None:
    rows = [{"text": r["text"], "label": 1990 + 20 * (r["label"] == "pos")} for r in reviews(120)]
    numbers = Regression(mean=2000.0, spread=10.0)
    fitted = fit(bert, numbers, _encoded(bert, numbers, rows[:90]), _encoded(bert, numbers, rows[90:]), Full(), FAST)
    assert fitted.scores["pearson"] > 0.95 and fitted.scores["rmse"] < 5
    told = [{"words": r["text"].split(), "tags": ["B-X" if w in GOOD else "O" for w in r["text"].split()]} for r in reviews(80)]
    tags = Tagging(labels=("O", "B-X"))
    fitted = fit(bert, tags, _encoded(bert, tags, told[:60]), _encoded(bert, tags, told[60:]), Full(), FAST)
    assert fitted.scores["f1"] > 0.95


def test_answers_are_learnt(bert: Base) -> None:
    rows = [
        {"context": r["text"], "question": "so", "answers": [next(w for w in r["text"].split() if w in GOOD)]}
        for r in reviews(160)
        if r["label"] == "pos"
    ]
    task = QuestionAnswering()
    fitted = fit(bert, task, _encoded(bert, task, rows[:60]), _encoded(bert, task, rows[60:]), Full(), FAST)
    assert fitted.scores["exact"] > 0.9


def test_frozen_moves_the_read_out_alone(bert: Base) -> None:
    base = Base("run", bert.recipe, bert.tokenizer, None, bert.recipe.model.build(0).state_dict())
    fitted = fit(base, TASK, _encoded(base, TASK, reviews(40)), (), Frozen(), TuneOptions(epochs=2, dtype="fp32"))
    same = {n for n, p in fitted.model.state_dict().items() if not n.startswith("head.") and torch.equal(p, base.weights[n])}
    assert same == {n for n in base.weights if not n.startswith("head.")}
    assert fitted.trainable == sum(p.numel() for n, p in fitted.model.named_parameters() if n.startswith("head."))
    assert math.isnan(fitted.score) and not fitted.history


def test_an_interrupted_fit_ends_in_the_same_weights(bert: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid = _encoded(bert, TASK, reviews(48, 1)), _encoded(bert, TASK, reviews(16, 2))
    options = TuneOptions(epochs=4, lr=3e-3, batch=8, dtype="fp32", save_steps=5)
    whole = fit(bert, TASK, train, valid, Full(), options, run=Run.create(tmp_path / "whole", {}))
    launch = Trainer.launch

    def breaks(self: Trainer) -> None:
        if self.progress.step == 13:
            raise KeyboardInterrupt
        launch(self)

    monkeypatch.setattr(Trainer, "launch", breaks)
    run = Run.create(tmp_path / "cut", {})
    with pytest.raises(KeyboardInterrupt):
        fit(bert, TASK, train, valid, Full(), options, run=run)
    monkeypatch.undo()
    again = fit(bert, TASK, train, valid, Full(), options, run=run)
    assert again.scores == whole.scores and [r["step"] for r in again.history] == [r["step"] for r in whole.history]
    for (name, a), b in zip(whole.model.state_dict().items(), again.model.state_dict().values()):
        assert torch.equal(a, b), name


def test_the_best_weights_are_kept(bert: Base) -> None:
    train, valid = _encoded(bert, TASK, reviews(64, 1)), _encoded(bert, TASK, reviews(20, 2))
    fitted = fit(bert, TASK, train, valid, Full(), TuneOptions(epochs=10, lr=5e-3, batch=8, dropout=0.3, dtype="fp32"))
    predictions, rows = predict(fitted.model, TASK, bert, valid)
    scores = TASK.score(predictions, rows)
    assert scores["accuracy"] == fitted.score == max(r["accuracy"] for r in fitted.history)
    assert scores["loss"] == pytest.approx(fitted.scores["loss"], rel=1e-5)


def test_the_pace(bert: Base) -> None:
    fresh = pace(bert, Full(), TuneOptions(), 200)
    assert (fresh.batch, fresh.epochs) == (16, 40) and fresh.updates == 500
    trained = Base("run", bert.recipe, bert.tokenizer, None, {})
    assert pace(trained, Full(), TuneOptions(), 200).epochs == 20 and pace(trained, Full(), TuneOptions(), 100_000).epochs == 3
    assert pace(trained, Full(), TuneOptions(), 40).batch == 8 and pace(trained, Full(), TuneOptions(batch=99), 40).batch == 40
    assert pace(trained, Full(), TuneOptions(), 200).lr < fresh.lr / 5
    assert (
        pace(trained, Frozen(), TuneOptions(lr=0.1), 200).lr == 0.1 and pace(bert, Full(), TuneOptions(), 200, 2.5).updates == 31
    )


def test_the_objective_knows_the_model(bert: Base, gpt: Base) -> None:
    for base in (bert, gpt):
        fitted = fit(base, TASK, _encoded(base, TASK, reviews(16)), (), Full(), TuneOptions(epochs=1, dtype="fp32"))
        assert isinstance(TASK.objective, Labelled) and fitted.spec.head.pool.take == ("first" if base is bert else "last")
