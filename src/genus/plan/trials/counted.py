"""A counted trial: an n-gram estimated on growing shares of the training data."""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from genus.objectives.causal import Causal
from genus.parts.ngram import NGram
from genus.plan.trials.trial import Point, Result, Trial, peak_memory
from genus.prepare.dataset import Dataset
from genus.recipes import arguments, find, make
from genus.recipes.recipe import Recipe
from genus.run import write_atomic
from genus.spec import apply_overrides
from genus.train.kneser_ney import estimate
from genus.train.loader import First, TokenStream, Windows
from genus.train.options import split_overrides
from genus.train.record import validation_split

PARTIAL = "points.json"
PIECES = 256  # places of the data that a share is taken from
PIECE = 4096  # tokens that a place should have at least, since each begins in the middle of a document
BLOCK = 1024  # validation tokens taken together for the standard error


class Share:
    """`tokens` of a split, taken in equal parts from the beginnings of `pieces` equal stretches of it.

    A larger share contains every smaller one with as many pieces, and all of them look like the whole, whatever order the
    documents lie in. A piece that begins inside a document counts as one.
    """

    def __init__(self, split: TokenStream, tokens: int, pieces: int) -> None:
        self.split = split
        self.borders = np.linspace(0, split.tokens, pieces + 1).astype(np.int64)
        part = np.minimum(np.diff(self.borders), round(tokens / pieces))
        self.starts = np.concatenate([[0], np.cumsum(part)])  # in the share
        self.tokens = int(self.starts[-1])
        inside = [
            split.ends[np.searchsorted(split.ends, a, "right") : np.searchsorted(split.ends, a + n, "left")] - a + s
            for a, n, s in zip(self.borders[:-1], part, self.starts[:-1], strict=True)
        ]
        self.ends = np.unique(np.concatenate([*inside, self.starts[1:]]))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start .. stop - 1 of the share."""
        parts = []
        piece = int(np.searchsorted(self.starts, start, "right")) - 1
        while start < stop:
            upto = min(stop, int(self.starts[piece + 1]))
            offset = int(self.borders[piece] - self.starts[piece])
            parts.append(self.split.read(start + offset, upto + offset))
            start, piece = upto, piece + 1
        return np.concatenate(parts) if len(parts) != 1 else parts[0]


def measure(trial: Trial, data: Dataset, place: Path) -> Result:
    """Count every share in the folder `place`, going on from what is there. A horizon beyond the data stands for all of it.

    Raises:
        ValueError: the data has nothing to validate on.
    """
    begin = time.perf_counter()
    recipe, split = _recipe(trial, data), data.split("train")
    held = validation_split(data)
    if held is None:
        raise ValueError(f"{trial.data} has no validation split to measure on; prepare it again with --validation 0.05")
    points, before = _kept(place)
    horizons = sorted({min(h, split.tokens) for h in trial.horizons})
    pieces = max(1, min(PIECES, horizons[0] // PIECE))
    for horizon in horizons[len(points) :]:
        share = split if horizon == split.tokens else Share(split, horizon, pieces)
        points.append(_count(trial, recipe, share, data, place))
        content = {"seconds": before + time.perf_counter() - begin, "points": [asdict(p) for p in points]}
        write_atomic(place / PARTIAL, json.dumps(content) + "\n")
    last = points[-1]
    counts = {"total": last.parameters, "non_embedding": last.parameters, "effective": 0}
    return Result(
        trial,
        "done",
        points=tuple(points),
        parameters=counts,
        peak_memory=peak_memory(),
        tokens_per_s=last.tokens / max(1e-9, last.seconds),
        seconds=before + time.perf_counter() - begin,
    )


def _recipe(trial: Trial, data: Dataset) -> Recipe:
    ids = {"vocab": data.vocab_size, "bos": data.tokenizer.bos_id, "eos": data.tokenizer.eos_id}
    sizes, fields = split_overrides(trial.overrides)
    name = find(trial.recipe).name
    recipe = make(name, **{**ids, **arguments(name, sizes)})
    return apply_overrides(recipe, fields)  # type: ignore[no-any-return]


def _count(trial: Trial, recipe: Recipe, share: Any, data: Dataset, place: Path) -> Point:
    """Estimate on `share` and score the validation rows; the model is removed again."""
    spec: NGram = recipe.model
    folder = place / "model"
    begin = time.perf_counter()
    limit = recipe.training.memory * 2**20  # type: ignore[attr-defined]
    model = estimate(
        share, spec.order, spec.vocab, spec.bos, spec.eos, folder, memory=limit, prune=spec.prune, workers=trial.threads
    )
    seconds = time.perf_counter() - begin
    nats = _score(model, data, trial.eval_tokens)
    size = sum(f.stat().st_size for f in folder.iterdir())
    total = model.spec.parameters()
    del model
    shutil.rmtree(folder)
    held = data.split("validation")
    bits = held.tokens / max(1, held.bytes) / math.log(2)
    blocks = nats[: len(nats) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=1)
    error = float(blocks.std(ddof=1) / math.sqrt(len(blocks)) * bits) if len(blocks) > 1 else None
    loss = float(nats.mean())
    return Point(share.tokens, loss, loss * bits, seconds, share.tokens, 0.0, error, total, size)


def _score(model: NGram.Module, data: Dataset, tokens: int) -> np.ndarray:
    """Nats of each of the first validation tokens, the ones that neural recipes are measured on."""
    held = First(data.split("validation"), tokens)
    batch = Causal().batch(Windows(held, held.tokens, 1, data.tokenizer.bos_id, shuffle=False)(0))
    return -model.score(batch.inputs, batch.targets, batch.doc).double().numpy()[0]


def _kept(place: Path) -> tuple[list[Point], float]:
    """What an attempt that was killed had measured, and the seconds it took."""
    file = place / PARTIAL
    if not file.is_file():
        return [], 0.0
    content = json.loads(file.read_text(encoding="utf-8"))
    return [Point(**p) for p in content["points"]], content["seconds"]
