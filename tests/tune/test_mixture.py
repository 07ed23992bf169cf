"""A mixture of layers finds the layer that matters for the task."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genus.parts.mix import ScalarMix
from genus.parts.task_head import Pool, TaskHead
from genus.recipes import make
from genus.recipes.training import AdamW, adamw_rate
from genus.train import optimizer
from genus.tune import fitting
from genus.tune.base import Base
from genus.tune.defaults import TUNED_RATE, UPDATES, mixing_rates
from genus.tune.examples import Examples
from genus.tune.fitting import Rated, fit
from genus.tune.methods import Frozen, Full, LoRA, Method
from genus.tune.options import TuneOptions
from genus.tune.tasks.classification import Classification

from .conftest import reviews

DIM = 16


def _shares(matters: int, suited: bool, parameters: int) -> torch.Tensor:
    """The shares after a fit's updates at the rate of a model of this size, where one of three layers tells the class."""
    torch.manual_seed(matters)
    head = TaskHead(2, Pool("mean", dense=False), mix=ScalarMix(3)).Module(
        TaskHead(2, Pool("mean", dense=False), mix=ScalarMix(3)), DIM
    )
    torch.nn.init.normal_(head.proj.weight, 0, 0.02)
    lr = adamw_rate(parameters) * TUNED_RATE
    rated = Rated(tuple(mixing_rates(head, lr).items()) if suited else ())
    steps = optimizer.build(AdamW(weight_decay=0.01), head, lr, rated)
    way = torch.randn(DIM)
    for update in range(UPDATES):
        optimizer.set_rate(steps, lr * min(1.0, 10 * update / UPDATES, (UPDATES - update) / (0.9 * UPDATES)))
        label = torch.randint(0, 2, (8,))
        layers = [torch.randn(8, 5, DIM) for _ in range(3)]
        layers[matters] += (2 * label - 1)[:, None, None] * way
        F.cross_entropy(head(head.mix(layers)), label).backward()
        optimizer.step(steps, torch.ones(()))
        head.zero_grad()
    return head.mix.weights.detach().softmax(0)


@pytest.mark.parametrize("parameters", [100_000, 100_000_000])
def test_the_layer_that_matters_is_found(parameters: int) -> None:
    for matters in (0, 1):
        assert _shares(matters, True, parameters)[matters] > 0.7
    assert _shares(1, False, parameters).max() < 0.4  # at the rate of everything else nothing is decided


@pytest.mark.parametrize("how", [Full(), Frozen(), LoRA(rank=2)], ids=lambda how: how.name)
def test_a_fit_moves_the_shares(gpt: Base, how: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Classification(labels=("neg", "pos"))
    recipe = make("elmo", dim=32, depth=2, vocab=gpt.tokenizer.vocab_size)
    torch.manual_seed(0)
    base = Base("run", recipe, gpt.tokenizer, None, dict(recipe.model.build(0).state_dict()))
    train = Examples.encode(task, reviews(64), base.tokenizer, 64)

    def moved() -> float:
        mix = fit(base, task, train, (), how, TuneOptions(epochs=5, batch=8, dtype="fp32")).model.head.mix
        return float(mix.weights.detach().abs().max())

    suited = moved()
    monkeypatch.setattr(fitting, "mixing_rates", lambda model, lr: {})
    assert suited > 10 * moved() > 0  # what they move at the rate of everything else
