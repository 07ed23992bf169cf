"""What every tuned model stands beside: what can be had without reading the text, or without knowing any language."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from genus.prepare.records import Record
from genus.tune.bag_of_words import BagOfWords
from genus.tune.results import Row
from genus.tune.task import Task
from genus.tune.tasks.tagging import as_list

MAJORITY, MEAN, USUAL_TAG, BAG = "majority class", "mean", "usual tag of each word", "bag of words"


def measure(task: Task, train: Sequence[Record], test: Sequence[Record], seed: int = 0) -> list[Row]:
    """The rows of the table for one split: what each baseline that knows this kind of label reaches.

    Classes: the commonest, and a bag of words. Numbers: their mean, and a bag of words. Tags: the usual tag of each word.

    Raises:
        ValueError: scikit-learn is missing; with the extra that brings it.
    """
    return [row for row, _ in predicted(task, train, test, seed)]


def predicted(task: Task, train: Sequence[Record], test: Sequence[Record], seed: int = 0) -> list[tuple[Row, list[Any]]]:
    """As `measure`, with each baseline's predictions."""
    kind = type(task.target(train[0]))
    if kind is float:
        ways = {MEAN: _mean, BAG: _regression}
    elif kind is str and task.labels_of():
        ways = {MAJORITY: _majority, BAG: _classification}
    elif kind is list and task.labels_of():
        ways = {USUAL_TAG: _usual_tags}
    else:
        return []
    found = []
    for name, way in ways.items():
        begin = time.perf_counter()
        predictions, trainable, note = way(task, train, test, seed)
        seconds = time.perf_counter() - begin
        row = Row(name, (task.score(predictions, test),), float(len(train)), seconds, trainable, note)
        found.append((row, predictions))
    return found


Found = tuple[list[Any], int, str]


def _majority(task: Task, train: Sequence[Record], test: Sequence[Record], seed: int) -> Found:
    """The share of each class among the training rows, whatever is asked."""
    counts = Counter(task.target(row) for row in train)
    known = [counts[label] / len(train) for label in task.labels_of()]
    name, count = counts.most_common(1)[0]
    return [known] * len(test), 0, f"always {name!r}, the class of {count / len(train):.0%} of the training rows"


def _classification(task: Task, train: Sequence[Record], test: Sequence[Record], seed: int) -> Found:
    targets = [task.target(row) for row in train]
    if len(set(targets)) < 2:
        return _majority(task, train, test, seed)
    model = BagOfWords(seed=seed).fit([task.texts(row) for row in train], targets)
    found = model.predict([task.texts(row) for row in test])
    return shares(task, model.classes, found), model.parameters, str(model)


def shares(task: Task, classes: Sequence[str], found: np.ndarray) -> list[list[float]]:
    """Probabilities (N, classes) in the order of the task's labels; 0 for a class that no training row has."""
    whole = np.zeros((len(found), len(task.labels_of())))
    whole[:, [task.labels_of().index(label) for label in classes]] = found
    return whole.tolist()  # type: ignore[no-any-return]


def _mean(task: Task, train: Sequence[Record], test: Sequence[Record], seed: int) -> Found:
    mean = statistics.fmean(task.target(row) for row in train)
    return [mean] * len(test), 1, f"always {mean:.4g}"


def _regression(task: Task, train: Sequence[Record], test: Sequence[Record], seed: int) -> Found:
    model = BagOfWords(numbers=True, seed=seed).fit([task.texts(row) for row in train], [task.target(row) for row in train])
    return model.predict([task.texts(row) for row in test]).tolist(), model.parameters, str(model)


def _usual_tags(task: Task, train: Sequence[Record], test: Sequence[Record], seed: int) -> Found:
    """The commonest tag of each word; of a word that was not seen, the commonest tag of all."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    every: Counter[str] = Counter()
    for row in train:
        for word, tag in zip(words(task, row), task.target(row), strict=True):
            counts[word][tag] += 1
            every[tag] += 1
    usual = {word: _usual(task, tags) for word, tags in counts.items()}
    other = _usual(task, every)
    unseen = sum(word not in usual for row in test for word in words(task, row))
    whole = sum(len(words(task, row)) for row in test)
    predictions = [[usual.get(word, other) for word in words(task, row)] for row in test]
    return predictions, len(usual), f"{len(usual):,} words; {unseen / max(1, whole):.0%} of the test words are not among them"


def _usual(task: Task, tags: Counter[str]) -> tuple[int, float]:
    """The number of the commonest tag, and its share."""
    tag, count = tags.most_common(1)[0]
    return task.labels_of().index(tag), count / tags.total()


def words(task: Task, row: Record) -> list[str]:
    """The words that a row's tags belong to."""
    return as_list(row.get(task.columns[0]))
