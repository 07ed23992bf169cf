"""Evaluate a model that fills in what was taken out of a text: loss, perplexity and accuracy with fixed masks.

These are figures of the objective: how much a model knows of a token when it sees both sides of it, or the rest of its text. They
are not bits per byte, and cannot be compared with those of a left-to-right model.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genus.evaluate.evaluation import context_of
from genus.evaluate.interval import bootstrap
from genus.modalities.words import WordStarts
from genus.objectives.batch import Rows
from genus.objectives.objective import Objective, sees
from genus.objectives.usual import usual
from genus.parts.head import Head
from genus.parts.model import Model
from genus.prepare.dataset import Dataset
from genus.prepare.progress import Progress
from genus.recipes.recipe import Recipe
from genus.recipes.training import Training
from genus.run import Loaded, load, write_atomic
from genus.spec import from_json, to_json
from genus.train.loader import Windows
from genus.train.machine import compute_dtype, default_device
from genus.train.start import settle

CONTEXT = 512  # of a model that does not say how long its texts were
ROWS = 16  # of which a batch is made: other documents for pairs come from them
UNITS = 200  # parts that intervals are found from, at least, where there are so many rows


@dataclass(frozen=True)
class Figure:
    """A mean over `count` targets: nats where the name ends in "loss", a share where it ends in "accuracy".

    Attributes:
        interval: 95 %, by a bootstrap over rows; None where there are too few.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    count: int


@dataclass(frozen=True)
class Denoising:
    """What a model is worth at its own objective.

    Attributes:
        objective: as JSON. tokens: that were read. perplexity: exponential of the loss per target, that of pairs
            left out.
        notes: what a reader must know.
    """

    data: str
    fingerprint: str
    split: str
    objective: dict[str, Any]
    context: int
    tokens: int
    figures: tuple[Figure, ...]
    perplexity: float
    dtype: str
    seconds: float
    notes: tuple[str, ...]

    def figure(self, name: str) -> Figure:
        """The figure called `name`: "loss", "accuracy" ..."""
        return next(figure for figure in self.figures if figure.name == name)

    def write(self, path: Path) -> None:
        """Write the JSON form, replacing an older file whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n")


def fills_in(loaded: Loaded) -> bool:
    """Whether the model gives no probability to a text from left to right, nor to a given target."""
    return isinstance(loaded.spec, Model) and sees(loaded.spec) != "past" and not _objective(loaded).pairs


@torch.no_grad()
def evaluate_denoising(
    model: str | Path | Loaded,
    data: str | Path | Dataset,
    split: str = "validation",
    *,
    dtype: str = "fp32",
    seed: int = 0,
    progress: Progress | None = None,
) -> Denoising:
    """Loss, perplexity and accuracy at the objective that a run was trained with, masks drawn from `seed`.

    The rows are the split's tokens in order, so that the same rows with the same masks are measured every time.

    Args:
        model: a run, a folder in Hugging Face layout, or one already loaded. data: a folder that `genus prepare` made.
        dtype: fp32, bf16 or auto.

    Raises:
        ValueError: no such split, another tokenizer, or a model that was tuned for a task.
    """
    loaded = load(model) if not isinstance(model, Loaded) else model
    data = data if isinstance(data, Dataset) else Dataset.open(data)
    part, tokenizer, spec = data.split(split), loaded.tokenizer or data.tokenizer, loaded.spec
    assert isinstance(spec, Model)
    if not isinstance(spec.head, Head):
        raise ValueError(f"{loaded.path} was tuned for a task; genus predict applies it, and its own report has its scores")
    if not tokenizer.extends(data.tokenizer):
        raise ValueError(f"{data.root} has another tokenizer than {loaded.path}; prepare it with --tokenizer {loaded.path}")
    context = min(context_of(loaded) or spec.context or CONTEXT, spec.context or math.inf)
    recipe = settle(Recipe(loaded.path.name, spec, _objective(loaded), Training(context=int(context))), tokenizer)
    objective: Objective = recipe.objective
    device, precision = default_device(), compute_dtype(dtype, default_device())
    net = loaded.model.to(device).eval()
    words = WordStarts(data.tokenizer) if objective.marks_words else None
    rows = Windows(part, int(context), ROWS, data.tokenizer.bos_id, shuffle=False, words=words)
    unit = max(1, min(ROWS, rows.rows // UNITS))
    begin, tokens, found = time.perf_counter(), 0, []
    with (progress or Progress("none")).stage(loaded.path.name, rows.rows, "rows", 1) as stage:
        for step in range(math.ceil(rows.rows / ROWS)):
            fresh = _first(rows(step), rows.rows - step * ROWS)  # the last batch would begin again with the first rows
            batch = objective.batch(fresh, torch.Generator().manual_seed(seed * 7919 + step))
            tokens += batch.tokens
            found += [objective.measure(net, piece.to(device), None, precision) for piece in batch.split(unit)]
            stage.advance(len(fresh.tokens))
    figures = tuple(_figure(name, [each[name] for each in found]) for name in found[0])
    hidden = next((f for f in figures if f.name == "masked_loss"), figures[0])
    return Denoising(
        data=str(data.root),
        fingerprint=data.fingerprint,
        split=split,
        objective=to_json(objective),
        context=int(context),
        tokens=tokens,
        figures=figures,
        perplexity=math.exp(min(hidden.value, 700.0)),
        dtype=str(precision).removeprefix("torch."),
        seconds=time.perf_counter() - begin,
        notes=(
            "of the objective, with fixed masks: not bits per byte, and not to be compared with a left-to-right model's",
            "intervals: 95 %, bootstrap over rows",
        ),
    )


def _objective(loaded: Loaded) -> Objective:
    """What a run was trained with; of a folder, what is usual for such a model."""
    recipe = loaded.config.get("recipe")
    assert isinstance(loaded.spec, Model)
    return from_json(recipe).objective if recipe else usual(loaded.spec)  # type: ignore[no-any-return]


def _first(rows: Rows, count: int) -> Rows:
    """At most so many of the rows."""
    words = None if rows.words is None else rows.words[:count]
    return Rows(rows.tokens[:count], rows.doc[:count], rows.previous[:count], rows.begins[:count], rows.bos, words)


def _figure(name: str, parts: list[tuple[Any, Any]]) -> Figure:
    sums, counts = (np.array([float(part[i]) for part in parts]) for i in (0, 1))
    count = int(counts.sum())
    return Figure(name, float(sums.sum()) / max(1, count), bootstrap(sums, counts) if count else None, count)
