"""Judge: how well a model can be tuned to some labels, without keeping one: what a plan that aims at labels asks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from genus.prepare.records import Record
from genus.run import Run
from genus.tune import rate, trial
from genus.tune.labels import Labels, read_labels
from genus.tune.methods import method
from genus.tune.options import TuneOptions
from genus.tune.results import Row
from genus.tune.task import Say, Task
from genus.tune.tuning import base_of, encoded, splits_of


def judge(
    source: str | Path, labels: str | Path, folder: str | Path, options: TuneOptions, rows: int, say: Say
) -> tuple[Task, Row]:
    """Tune `source` on each split of the labels; the task, and the scores on rows that were not learnt from.

    Args:
        source, labels, options: as of `genus.tune`. folder: where the fits are written. rows: of each set, used at most.

    Raises:
        ValueError: the labels cannot be read, or this model cannot be tuned to them.
    """
    told = _some(read_labels(labels, options, say), rows, options.seed)
    base = base_of(source, told, options, say)
    held = encoded(base, told, options, say)
    parts, how = splits_of(told.task, told, options), method(options)
    run = Run.create(folder, {"labels": str(labels), "source": str(source)})
    options = rate.tried(base, told.task, held, parts[0], how, options, run, say)
    trials = [trial.measure(base, told.task, held, part, how, options, run, quiet=True) for part in parts]
    return told.task, trial.row(base.name, trials)


def _some(told: Labels, rows: int, seed: int) -> Labels:
    """The labels with a sample of each set that has more rows."""

    def sample(found: list[Record], places: list[str]) -> tuple[list[Record], list[str]]:
        chosen = sorted(random.Random(seed).sample(range(len(found)), min(rows, len(found))))
        return [found[i] for i in chosen], [places[i] for i in chosen]

    train, places = sample(list(told.train), list(told.places))
    told = replace(told, train=train, places=places)
    if told.test is not None:
        test, test_places = sample(list(told.test), list(told.test_places))
        told = replace(told, test=test, test_places=test_places)
    return told
