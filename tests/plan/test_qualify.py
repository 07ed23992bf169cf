"""A plan that aims at labels: who is tuned, who is left out, and that the scores are those of rows that were not learnt from."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from genus.plan import qualify as module
from genus.plan.branches import branch
from genus.plan.qualify import Score, check, qualify, tuned
from genus.prepare.dataset import Dataset


def contender(name: str) -> Any:
    found = branch(name)
    return SimpleNamespace(name=name, branch=found, alive=True, counted=found.kind == "counted")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        words = {"yes": ("good", "fine", "warm", "great"), "no": ("bad", "dull", "cold", "poor")}
        rows = [(f"the film {i} was {word}", label) for label, of in words.items() for word in of for i in range(10)]
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def test_branches_that_cannot_learn_the_labels_are_left_out(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, asked = {"lstm": 0.7, "gpt2": 0.9, "llama": 0.95}, []

    def fake(recipe: str, data: Path, file: str, folder: Path, seconds: float, seed: int, say: Any) -> Score:
        asked.append((recipe, folder.name, seconds))
        return Score(reached[recipe], "accuracy", "a model")

    monkeypatch.setattr(module, "tuned", fake)
    said: list[str] = []
    names = ("ngram", "lstm", "gpt", "llama")
    reasons = qualify([contender(n) for n in names], str(labels), tmp_path, tmp_path, 30.0, 0, said.append)
    assert asked == [("lstm", "lstm", 10.0), ("gpt2", "gpt", 10.0), ("llama", "llama", 10.0)]
    assert reasons.keys() == {"ngram", "lstm"} and "counted" in reasons["ngram"] and "llama reaches 0.950" in reasons["lstm"]
    assert len(said) == 3 and "gpt reaches 0.900 (accuracy)" in said[1]
    with pytest.raises(ValueError, match="plan for a network too"):
        qualify([contender("ngram")], str(labels), tmp_path, tmp_path, 30.0, 0, said.append)


def test_a_real_model_is_tuned(corpus: Dataset, tmp_path: Path, labels: Path) -> None:
    said: list[str] = []
    score = tuned("gpt2", corpus.root, str(labels), tmp_path / "target" / "gpt", 3.0, 0, said.append)
    assert score.name == "accuracy" and 0.5 <= score.value <= 1.0 and "labelled rows" in score.subject
    assert any("classification of 'text'" in line for line in said)
    again = tuned("gpt2", corpus.root, str(labels), tmp_path / "target" / "gpt", 3.0, 0, said.append)  # after a kill
    assert again.name == "accuracy"


def test_a_file_that_is_not_there(labels: Path) -> None:
    check(str(labels))
    with pytest.raises(ValueError, match="there is no such file of labels"):
        check(str(labels.with_name("label.csv")))
