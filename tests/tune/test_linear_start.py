"""On a sentence encoder a new read-out begins as the best linear one, and nothing else moves."""

from __future__ import annotations

import pytest
import torch

from genus.parts.task_head import Pool, Vectors
from genus.tune import linear_start
from genus.tune.base import Base
from genus.tune.examples import Examples
from genus.tune.fitting import fit, read
from genus.tune.methods import Full
from genus.tune.options import TuneOptions
from genus.tune.reading import objective_of
from genus.tune.tasks.classification import Classification
from genus.tune.tasks.regression import Regression
from genus.tune.tasks.tagging import Tagging

from .conftest import reviews

TASK = Classification(labels=("neg", "pos"))


@pytest.fixture(autouse=True)
def _weak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base that knows nothing gives vectors of which little can be read."""
    monkeypatch.setattr(linear_start, "PENALTY", 0.1)


def _base(fresh: Base) -> Base:
    """A sentence encoder, of random weights."""
    torch.manual_seed(3)
    recipe = fresh.recipe.replace(model=fresh.recipe.model.replace(head=Vectors(take="mean")))
    return Base("run", recipe, fresh.tokenizer, None, dict(recipe.model.build(0).state_dict()))


def test_where_it_pays(bert: Base) -> None:
    stated, numbers = _base(bert).recipe.model, Regression(mean=0.0, spread=1.0)
    assert linear_start.pays(stated, TASK.objective) and not linear_start.pays(stated, numbers.objective)
    assert not linear_start.pays(stated, Tagging(labels=("O", "B-X")).objective)
    assert not linear_start.pays(bert.recipe.model, TASK.objective)
    assert not linear_start.pays(stated.replace(head=Vectors(Pool())), TASK.objective)


def test_it_reads_what_the_base_gives(bert: Base) -> None:
    base = _base(bert)
    examples = Examples.encode(TASK, reviews(64), base.tokenizer, 64, base.types)
    model = base.model(TASK.head(base.recipe.model), 0)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    objective = objective_of(TASK, model.spec, base.tokenizer)
    assert linear_start.begin(model, objective, examples)
    changed = {name for name, p in model.state_dict().items() if not torch.equal(p, before[name])}
    assert changed and all(name.startswith("head.proj.") for name in changed)
    probabilities = read(model, TASK, objective, examples)
    right = [p[e.label] > 0.5 for p, e in zip(probabilities, examples, strict=True)]
    assert sum(right) >= 0.9 * len(right)


def test_a_fit_is_judged_before_it_begins(bert: Base) -> None:
    """So that tuning which does harm is undone."""
    base = _base(bert)
    train, valid = (Examples.encode(TASK, reviews(n, seed), base.tokenizer, 64, base.types) for n, seed in ((64, 1), (30, 2)))
    options = TuneOptions(epochs=2, batch=8, lr=1e-8, dropout=0.0, dtype="fp32")
    fitted = fit(base, TASK, train, valid, Full(), options)
    assert fitted.history[0]["step"] == 0 and fitted.history[0]["accuracy"] == fitted.score > 0.8
    fresh = fit(bert, TASK, train, valid, Full(), options)
    assert fresh.history[0]["step"] > 0


def test_one_class_is_none(bert: Base) -> None:
    base = _base(bert)
    rows = [r for r in reviews(10) if r["label"] == "pos"]
    model = base.model(TASK.head(base.recipe.model), 0)
    examples = Examples.encode(TASK, rows, base.tokenizer, 64, base.types)
    assert not linear_start.begin(model, objective_of(TASK, model.spec, base.tokenizer), examples)


def test_the_solution_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    torch.manual_seed(0)
    x = torch.randn(60, 5) * torch.tensor([1.0, 3.0, 0.2, 1.0, 9.0]) + 2
    y = (x @ torch.randn(5, 3)).argmax(1)
    weight, bias = linear_start.fitted(x, y, 3)
    z = (x - x.mean(0)) / x.std(0, unbiased=False)
    own = linear_model.LogisticRegression(C=1 / linear_start.PENALTY, tol=1e-8).fit(z, y)
    ours = (x @ weight.T + bias).softmax(-1)
    assert (ours - torch.from_numpy(own.predict_proba(z)).float()).abs().max() < 1e-3
