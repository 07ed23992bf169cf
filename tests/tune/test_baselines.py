"""Baselines: what each says of classes, numbers and tags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from genus.tune.baselines import measure, predicted
from genus.tune.tasks.classification import Classification
from genus.tune.tasks.tagging import Tagging

FILM = [("a fine film", "1"), ("fine and warm", "1"), ("so warm and fine", "1"), ("a dull film", "0"), ("dull and cold", "0")]
TASK = Classification(labels=("0", "1", "2"))


def rows(pairs: list[tuple[Any, Any]], text: str = "text", label: str = "label") -> list[dict[str, Any]]:
    return [{text: a, label: b} for a, b in pairs]


def test_classes() -> None:
    train, test = rows(FILM), rows([("fine", "1"), ("dull", "0"), ("warm", "1"), ("cold", "0")])
    (majority, shares), (bag, guesses) = predicted(TASK, train, test)
    assert shares[0] == [0.4, 0.6, 0.0] and majority.trainable == 0 and majority.labels == 5
    assert majority.scores[0]["accuracy"] == 0.5 and majority.note == "always '1', the class of 60% of the training rows"
    assert bag.scores[0]["accuracy"] == 1.0 and bag.trainable > 5 and bag.note.startswith("TF-IDF of 1 to 2 words")
    assert all(sum(g) == pytest.approx(1) and g[2] == 0 for g in guesses)
    assert [r.name for r in measure(TASK, train, test)] == ["majority class", "bag of words"]
    alone = measure(TASK, train[:3], test)  # one class only: nothing to learn
    assert [r.scores[0]["accuracy"] for r in alone] == [0.5, 0.5]


@dataclass(frozen=True)
class Numbers(Classification):
    """Enough of a task of numbers."""

    def target(self, row: dict[str, Any]) -> Any:
        return float(row["label"])

    def score(self, predictions: Any, rows: Any) -> dict[str, float]:
        return {"error": sum(abs(p - r["label"]) for p, r in zip(predictions, rows))}


def test_numbers() -> None:
    train = rows([("bad", 1.0), ("good", 5.0), ("good", 5.0), ("bad", 1.0)])
    found = measure(Numbers(), train, rows([("good", 5.0), ("bad", 1.0)]))
    assert [r.name for r in found] == ["mean", "bag of words"] and found[0].note == "always 3"
    assert found[1].scores[0]["error"] < 1 < found[0].scores[0]["error"] == 4


@pytest.mark.parametrize("written", [list, " ".join])
def test_tags(written: Callable[[list[str]], Any]) -> None:
    """With the task itself, whose predictions have a probability, and for columns that are lists or text with spaces."""
    task = Tagging(labels=("B-PER", "O", "B-LOC"))

    def told(*pairs: tuple[list[str], list[str]]) -> list[dict[str, Any]]:
        return rows([(written(words), written(tags)) for words, tags in pairs], "words", "tags")

    train = told((["Ann", "left", "Rome"], ["B-PER", "O", "B-LOC"]), (["Rome", "left"], ["B-PER", "O"]), (["Rome"], ["B-LOC"]))
    test = told((["Ann", "left", "Rome", "far"], ["B-PER", "O", "B-LOC", "O"]))
    ((row, predictions),) = predicted(task, train, test)
    assert predictions[0] == [(0, 1.0), (1, 1.0), (2, pytest.approx(2 / 3)), (0, pytest.approx(1 / 3))]
    assert row.scores[0]["accuracy"] == 0.75 and row.scores[0]["recall"] == 1.0
    assert row.note == "3 words; 25% of the test words are not among them"
    assert task.render(predictions[0])["prediction"] == ["B-PER", "O", "B-LOC", "B-PER"]
