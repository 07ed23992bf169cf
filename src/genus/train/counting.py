"""Train a model that is counted: one pass over the data, no gradient."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genus.objectives.causal import Causal
from genus.parts.ngram import NGram
from genus.prepare.dataset import Dataset
from genus.recipes import arguments, make
from genus.recipes.training import Counting
from genus.run import Run
from genus.spec import apply_overrides, from_json, to_json
from genus.train.kneser_ney import estimate
from genus.train.loader import Windows
from genus.train.machine import peak_memory_mb
from genus.train.options import TrainOptions, split_overrides
from genus.train.record import specification, validation_split

Say = Callable[[str], None]


def start_counting(
    name: str,
    data_path: str | Path,
    out: str | Path,
    options: TrainOptions,
    say: Say = print,
    prediction: dict[str, Any] | None = None,
) -> Run:
    """Estimate the counted recipe `name` on prepared data. After a kill, `count` begins again: there is nothing to continue."""
    data = Dataset.open(data_path)
    ids = {"vocab": data.vocab_size, "bos": data.tokenizer.bos_id, "eos": data.tokenizer.eos_id}
    sizes, fields = split_overrides(options.overrides)
    recipe = apply_overrides(make(name, **{**ids, **arguments(name, sizes)}), fields)
    return count(Run.create(out, specification(name, recipe, data, options), prediction), data, say)


def count(run: Run, data: Dataset, say: Say = print) -> Run:
    """Count the training split and write the model of a run that has none yet."""
    recipe, options = from_json(run.config["recipe"]), TrainOptions.from_json(run.config["options"])
    spec, training = recipe.model, recipe.training
    assert isinstance(spec, NGram) and isinstance(training, Counting)
    split = data.split("train")
    begin = time.perf_counter()
    last = ""

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        if stage != last:
            say(stage)
            last = stage

    model = estimate(
        split,
        spec.order,
        spec.vocab,
        spec.bos,
        spec.eos,
        run.model_dir,
        memory=training.memory * 2**20,
        prune=spec.prune,
        progress=progress,
    )
    seconds = time.perf_counter() - begin
    data.tokenizer.save(run.model_dir)
    run.config["recipe"] = to_json(recipe.replace(model=model.spec))
    run.config["parameters"] = model.spec.parameters()
    result = _validate(model, data, options)
    record: dict[str, Any] = {"kind": "eval", "step": 1, "tokens": split.tokens, "seconds": seconds}
    if result is not None:
        run.log({**record, "split": "validation", **result, "rss_mb": peak_memory_mb()})
    run.config["finished"] = {"steps": 1, "tokens": split.tokens, "seconds": seconds, "validation": result}
    run.save()
    grams = ", ".join(f"{n:,}" for n in (spec.vocab, *model.spec.grams))
    say(f"model: {spec.order}-gram, {grams} grams of order 1 to {spec.order}, counted in {seconds:.1f} s")
    if result is not None:
        say(f"validation loss {result['loss']:.4f}, {result['bpb']:.4f} bits/byte")
    return run


def _validate(model: NGram.Module, data: Dataset, options: TrainOptions) -> dict[str, float] | None:
    """Loss on the first `eval_tokens` of the validation split, in the rows that a neural model would see, but whole."""
    held = validation_split(data)
    if held is None:
        return None
    rows = Windows(held, min(held.tokens, options.eval_tokens), 1, data.tokenizer.bos_id, shuffle=False)
    batch = Causal().batch(rows(0))
    loss = -float(model.score(batch.inputs, batch.targets, batch.doc).double().mean())
    return {"loss": loss, "bpb": loss / math.log(2) * held.tokens / max(1, held.bytes)}
