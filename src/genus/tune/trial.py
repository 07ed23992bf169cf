"""Trial: one fit on one split, judged on the rows it did not see, with everything written down so that it is done once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from genus.prepare.records import Record
from genus.run import CONFIG, Run, write_atomic
from genus.train.checkpoint import save_weights
from genus.train.machine import compute_dtype, default_device
from genus.tune.base import Base
from genus.tune.examples import Examples
from genus.tune.fitting import Fitted, fit, predict, read
from genus.tune.methods import Method
from genus.tune.options import TuneOptions
from genus.tune.reading import objective_of
from genus.tune.results import Row
from genus.tune.splits import Split
from genus.tune.task import Task

RESULT, PREDICTIONS, WEIGHTS = "result.json", "predictions.jsonl", "model.safetensors"


@dataclass(frozen=True)
class Held:
    """The labelled rows as the model reads them.

    Attributes:
        train: rows that splits are cut from. valid, test: sets that were given; None = cut from `train`.
        places, test_places: where the rows stand in their files.
    """

    train: Examples
    valid: Examples | None = None
    test: Examples | None = None
    places: Sequence[str] = ()
    test_places: Sequence[str] = ()


@dataclass(frozen=True)
class Trial:
    """What one fit reached.

    Attributes:
        split: its name. validation: scores that chose the weights. test: scores on the rows that only judge.
        rows, held: labelled rows learnt from, and judged. best: update whose weights were kept. epochs: passes up to it.
    """

    split: str
    seed: int
    validation: dict[str, float]
    test: dict[str, float]
    rows: int
    held: int
    best: int
    updates: int
    epochs: float
    seconds: float
    trainable: int


def measure(
    base: Base,
    task: Task,
    held: Held,
    split: Split,
    method: Method,
    options: TuneOptions,
    run: Run,
    group: str = "fits",
    keep: bool = False,
    quiet: bool = False,
) -> Trial:
    """Fit on the split's training rows and judge; a fit that was measured before is read, one that was begun is continued.

    Args:
        group: folder inside the run. keep: also write the model's weights beside the result.
    """
    folder = run.path / group / folder_name(split)
    if (folder / RESULT).is_file():
        return Trial(**json.loads((folder / RESULT).read_text(encoding="utf-8")))
    own = Run.open(folder) if (folder / CONFIG).is_file() else Run.create(folder, {"split": split.name, "seed": split.seed})
    train = held.train.of(split.train)
    valid = held.valid if held.valid is not None else held.train.of(split.valid)
    fitted = fit(base, task, train, valid, method, options, split.seed, own, name=split.name, quiet=quiet)
    dtype = compute_dtype(options.dtype, default_device())
    judged = held.test if held.test is not None else held.train.of(split.test)
    predictions, rows = predict(fitted.model, task, base, judged, dtype)
    places = held.test_places if held.test is not None else [held.places[i] for i in split.test]
    trial = _trial(split, fitted, task.score(predictions, rows), len(split.train), len(rows))
    write_atomic(folder / PREDICTIONS, lines(task, rows, predictions, places, split.name))
    if keep:
        save_weights(folder / WEIGHTS, fitted.model)
    shutil.rmtree(own.checkpoints_dir, ignore_errors=True)
    write_atomic(folder / RESULT, json.dumps(asdict(trial), indent=1, ensure_ascii=False) + "\n")
    return trial


def untuned(base: Base, task: Task, held: Held, splits: Sequence[Split], options: TuneOptions) -> Row | None:
    """What the base reaches on the rows that judge, as it is; None where it has no read-out for the task yet."""
    if base.weights is None or task.head(base.recipe.model) is not None:
        return None
    dtype, device = compute_dtype(options.dtype, default_device()), default_device()
    model = base.model(None, options.seed).to(device).eval()
    objective = objective_of(task, model.spec, base.tokenizer)  # type: ignore[arg-type]
    scores = []
    for judged in [held.test] if held.test is not None else [held.train.of(split.test) for split in splits]:
        outputs = read(model, task, objective, judged, dtype)
        scores.append(task.score(task.join(judged.rows, judged, outputs, base.tokenizer), judged.rows))
    return Row(f"{base.name} before tuning", tuple(scores))


def folder_name(split: Split) -> str:
    """The split's name as that of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", split.name)


def lines(task: Task, rows: Sequence[Record], predictions: Sequence[Any], places: Sequence[str], split: str) -> str:
    """Predictions as lines of JSON: what was read, what is right, what was said."""
    text = []
    for place, row, prediction in zip(places, rows, predictions, strict=True):
        told = {} if prediction is None else task.render(prediction)
        read = {name: row.get(name) for name in task.columns[:-1]}
        record = {"split": split, "place": place, "label": task.target(row), **told, **read}
        text.append(json.dumps(record, ensure_ascii=False, default=str) + "\n")
    return "".join(text)


def row(name: str, trials: Sequence[Trial], note: str = "") -> Row:
    """The line of the table for some trials of one method."""
    count = max(1, len(trials))
    return Row(
        name,
        tuple(t.test for t in trials),
        labels=sum(t.rows for t in trials) / count,
        seconds=sum(t.seconds for t in trials) / count,
        trainable=trials[0].trainable if trials else 0,
        note=note,
    )


def _trial(split: Split, fitted: Fitted, test: dict[str, float], rows: int, held: int) -> Trial:
    return Trial(
        split.name,
        split.seed,
        fitted.scores,
        test,
        rows,
        held,
        fitted.best,
        fitted.pace.updates,
        fitted.best_epochs,
        fitted.seconds,
        fitted.trainable,
    )
