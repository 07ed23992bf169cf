"""Probes that train: budgets, reproducibility, every recipe, what is refused, the command line."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from genus import recipes
from genus.cli import main
from genus.evaluate import probes
from genus.evaluate.probes.learning import learn
from genus.evaluate.probes.recall import Recall, rows
from genus.evaluate.probes.small import describe, small
from genus.evaluate.probes.task import Task


class Tiny(Recall):
    """Two pairs, few rows."""

    def __init__(self) -> None:
        super().__init__((2,))

    def batch(self, rng):
        return rows(rng, 4, 2)

    def test(self, level):
        return self.batch(__import__("numpy").random.default_rng(0))


CAUSAL = [s.name for s in recipes.systems() if s.generates]


@pytest.mark.parametrize("name", CAUSAL)
def test_every_recipe_can_be_trained_small(name: str) -> None:
    task = Tiny()
    recipe = small(name, task.vocab, task.length)
    learned = learn(recipe, task, 30.0 if name != "ngram" else 0.1, updates=1)
    assert learned.updates == [1] and 0.0 <= learned.last("2")[0] <= 1.0 and 0 < learned.last("2")[1] < 50
    assert describe(recipe).startswith(name)


def test_updates_make_it_reproducible() -> None:
    task, recipe = Tiny(), small("llama", Recall.vocab, 8)
    first, again, other = (learn(recipe, task, 60.0, seed, updates=6) for seed in (0, 0, 1))
    assert first.trace == again.trace != other.trace
    assert first.updates == [1, 2, 3, 5, 6]


def test_seconds_bound_it() -> None:
    begin = time.perf_counter()
    learned = learn(small("llama", Recall.vocab, 8), Tiny(), seconds=0.5)
    assert time.perf_counter() - begin < 20 and learned.updates[-1] >= 1
    with pytest.raises(ValueError, match="needs a time"):
        learn(small("llama", Recall.vocab, 8), Tiny(), seconds=0)


class Diverging(Tiny):
    def loss(self, model, sample):
        return super().loss(model, sample) * float("nan")


def test_a_loss_that_is_no_number_ends_it() -> None:
    task: Task = Diverging()
    learned = learn(small("gru", task.vocab, task.length), task, 60.0, updates=50)
    assert learned.notes == ["diverged after 0 updates"] and learned.updates == [0]


def test_own_sizes() -> None:
    """A recipe is taken at its own size, with the task's vocabulary."""
    own = recipes.make("llama", dim=32, depth=1, heads=2, vocab=5000, context=512)
    model = small(own, 129, 256).model
    assert (model.dim, model.stack.depth, model.embed.vocab) == (32, 1, 129)
    with pytest.raises(ValueError, match="has 64 learned positions and this probe's rows have 256"):
        small(recipes.make("gpt2", dim=32, depth=1, heads=2, vocab=100, context=64), 129, 256)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="sees both sides"):
        probes.probe_score("bert", "recall", 1.0)
    with pytest.raises(ValueError, match="'induction' reads a trained model, and an architecture is none; it can be: recall"):
        probes.probe_score("llama", "induction", 1.0)
    with pytest.raises(ValueError, match="no probe 'recal'"):
        probes.probe_score("llama", "recal", 1.0)
    with pytest.raises(ValueError, match="name the probes to train for: recall"):
        probes.run("llama")


def test_command_line(tmp_path: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(runs["gru"], tmp_path / "gru")
    assert main(["evaluate", str(run), "--probes", "induction,grokking", "--probe-time", "1s", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "the trained model, read: gru" in printed
    assert "its architecture, trained from nothing on synthetic tasks\n" in printed
    assert "grokking: gru, 2 layers × 64 wide" in printed
    kept = json.loads((run / "probes.json").read_text())["probes"]
    assert [r["kind"] for r in kept.values()] == ["read", "train"]
    assert kept["grokking"]["curves"][0]["along"] == "updates" and kept["grokking"]["figures"]["updates"] >= 1
