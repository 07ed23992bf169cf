"""Tune: labels in, a run out. Measured on rows that were not learnt from, beside what needs no model at all."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from genus import __version__
from genus.export import huggingface
from genus.ops.memory import keep_freed_memory
from genus.prepare.records import Record
from genus.recipes.recipe import Recipe
from genus.run import CONFIG, Run, must_be_free, write_atomic
from genus.spec import to_json
from genus.train.checkpoint import restore_weights
from genus.train.machine import compute_dtype, default_device, describe
from genus.tune import compare, continued, page, rate, results, trial
from genus.tune.base import Base, find_base
from genus.tune.counted import counted
from genus.tune.defaults import pace
from genus.tune.examples import Examples
from genus.tune.fitting import Fitted, fit, predict
from genus.tune.labels import Labels, read_labels, write_rejected
from genus.tune.labels import describe as describe_labels
from genus.tune.methods import ADAPTER, Method, method
from genus.tune.options import TuneOptions
from genus.tune.results import Row
from genus.tune.splits import Split, splits
from genus.tune.task import Say, Task
from genus.tune.trial import Held, Trial

RESULTS, PREDICTIONS, REJECTED = "results.json", "predictions.jsonl", "rejected.jsonl"
AGAIN = 3  # seeds that the final fit may try


def tune(source: str | Path, labels: str | Path, out: str | Path, options: TuneOptions, say: Say = print) -> Run:
    """Tune `source` on labelled rows; on unlabelled text where the labels are a prepared data folder.

    Args:
        source: a run, a folder in Hugging Face layout, or a recipe's name (training from the labels alone).
        labels: a file of rows with named columns, or a datasets folder, or prepared data. out: the run directory to make.
        say: told what was decided and why.

    Raises:
        ValueError, FileExistsError: with what to do about it.
    """
    keep_freed_memory()
    must_be_free(out)
    if continued.is_prepared(labels):
        return continued.continue_training(source, labels, out, options, say)
    if options.replay or options.tokens or options.seconds:
        raise ValueError(
            f"--replay, --tokens and --time are for unlabelled text, a folder that genus prepare made; {labels} is none. "
            "--epochs says how long to learn from labels"
        )
    for name in {options.method, *(compare.TUNED if options.compare else ())}:
        method(replace(options, method=name))
    told = read_labels(labels, options, say)
    base = base_of(source, told, options, say)
    held = encoded(base, told, options, say)
    splits_of(told.task, told, options)  # before anything is written: are there enough rows?
    config = {
        "genus": __version__,
        "source": str(source),
        "task": to_json(told.task),
        "labels": describe_labels(told, Path(labels).resolve() if Path(labels).exists() else labels),
        "base": {"kind": base.kind, "path": None if base.path is None else str(base.path.resolve())},
        "options": options.to_json(),
        "seed": options.seed,
        "machine": describe(),
        "versions": {"genus": __version__, "torch": torch.__version__},
    }
    run = Run.create(out, config)
    if told.rejected:
        write_rejected(run.path / REJECTED, told.rejected)
    return _go(run, base, told, held, options, say)


def resume(path: str | Path, say: Say = print) -> Run:
    """Continue a run that was interrupted: fits that are done are kept, the one that was begun goes on.

    Raises:
        ValueError: it is finished, it was not made by `genus tune`, or its labels have changed.
    """
    keep_freed_memory()
    run = Run.open(path)
    if continued.is_continued(run):
        return continued.resume(path, say)
    if "task" not in run.config or "labels" not in run.config:
        raise ValueError(f"{path} was not made by genus tune; continue it with: genus train --resume {path}")
    if run.config.get("finished"):
        raise ValueError(f"{path} is finished; tune it further with: genus tune {path} LABELS -o NEW_RUN")
    options = TuneOptions.from_json(run.config["options"])
    labels = run.config["labels"]["path"]
    told = read_labels(labels, options, lambda _: None)
    if told.fingerprint != run.config["labels"]["fingerprint"]:
        raise ValueError(f"{labels} is not what this run began with (its rows differ); put it back, or begin a new run")
    source = run.config["base"]["path"] or run.config["source"]
    base = base_of(source, told, options, lambda _: None)
    held = encoded(base, told, options, lambda _: None)
    done = len(list(run.path.glob(f"fits/*/{trial.RESULT}")))
    say(f"continued: {counted(done, 'fit')} done before")
    return _go(run, base, told, held, options, say)


def base_of(source: str | Path, told: Labels, options: TuneOptions, say: Say) -> Base:
    """What tuning begins from, with what the task needs of it."""
    return told.task.settle(find_base(source, lambda: (t for row in told.train for t in told.task.texts(row)), options, say))


def encoded(base: Base, told: Labels, options: TuneOptions, say: Say) -> Held:
    """The labelled rows as the model reads them; what is cut or cannot be used is said."""
    limit = base.limit(options)

    def read(rows: Sequence[Record] | None, name: str) -> Examples | None:
        if rows is None:
            return None
        examples = Examples.encode(told.task, rows, base.tokenizer, limit, base.types)
        if examples.cut:
            told.remarks.append(
                f"of {counted(len(rows), 'text')} {name}, {examples.cut:,} {'is' if examples.cut == 1 else 'are'} longer than "
                f"{counted(limit, 'token')}: what is beyond is not read"
            )
            say(f"labels: {told.remarks[-1]}")
        if examples.without:
            why = told.task.refusal(rows[examples.without[0]], base.tokenizer) or "nothing to learn from"
            some = f"{len(examples.without):,} of {counted(len(rows), 'row')}"
            told.remarks.append(f"{some} {name} cannot be used; the first: {why}")
            say(f"labels: {told.remarks[-1]}")
        return examples

    train = read(told.train, "to learn from")
    assert train is not None
    valid, test = read(told.validation, "of the validation set"), read(told.test, "of the test set")
    return Held(train, valid, test, told.places, told.test_places)


def _go(run: Run, base: Base, told: Labels, held: Held, options: TuneOptions, say: Say) -> Run:
    task, how = told.task, method(options)
    parts = splits_of(task, told, options)
    refit = options.refit and told.validation is None
    asked, options = options, rate.tried(base, task, held, parts[0], how, options, run, say, keep=not refit)
    _say_plan(base, told, held, parts, how, options, refit, say)
    trials = []
    for part in parts:
        trials.append(trial.measure(base, task, held, part, how, options, run, keep=not refit))
        done = trials[-1]
        say(f"{part.name}: {_told(task, done.test)} on {counted(done.held, 'row')}, best at update {done.best:,}")
    name = f"{how.name} tuning of {base.name}" if base.weights is not None else f"{base.name} from the labels alone"
    before = trial.untuned(base, task, held, parts, options)
    mine = trial.row(name, trials)
    mine = replace(mine, memory=compare.memory(base, mine.trainable))
    comparison = compare.Comparison(run, base, told, held, parts, asked, say)
    others = comparison.ways() if options.compare else comparison.always()
    verdict = ""
    if options.compare:
        verdict = compare.verdict(task.primary, [_way(run, mine, parts), *others], compare.overlap(told, parts))
    rows = [mine, *([before] if before else []), *(way.row for way in others)]
    final = (
        _refit(run, base, task, held, how, options, trials, say)
        if refit
        else _best(run, base, task, how, options, parts, trials, say)
    )
    final_scores = _finish(run, base, told, held, final, options)
    write_results(run, told, parts, trials, rows, final_scores, verdict)
    page.write(run)
    for leftover in (run.path / "fits").glob("*/checkpoints"):
        shutil.rmtree(leftover, ignore_errors=True)
    _say_table(run, task, rows, final_scores, say)
    if verdict:
        say(verdict)
    return run


def _way(run: Run, row: Row, parts: list[Split]) -> compare.Way:
    return compare.Way(row, tuple(run.path / "fits" / trial.folder_name(part) for part in parts))


def splits_of(task: Task, told: Labels, options: TuneOptions) -> list[Split]:
    """Splits of the training rows; rows are only cut off for what was not given."""
    given = told.test is not None
    if given and options.folds:
        raise ValueError("with a test set every seed is judged on it; leave out --folds, or --test to cross-validate")
    parts = splits(task, told.train, options.repeats, options.folds, told.validation is None, not given, options.seed)
    few = min(len(part.train) for part in parts)
    if few < 2 or (not given and not all(part.test for part in parts)):
        raise ValueError(
            f"{len(told.train)} rows are too few to learn from some and judge on others; label more, or give rows to judge on "
            "with --test FILE"
        )
    return parts


def _say_plan(
    base: Base, told: Labels, held: Held, parts: list[Split], how: Method, options: TuneOptions, refit: bool, say: Say
) -> None:
    one = parts[0]
    valid = len(one.valid) if told.validation is None else len(told.validation)
    test = len(one.test) if told.test is None else len(told.test)
    times = "" if options.repeats == 1 else f", {options.repeats} times"
    kind = f"{options.folds}-fold cross-validation{times}" if options.folds else counted(len(parts), "seed")
    say(f"splits: {kind}: {counted(len(one.train), 'row')} to learn from, {valid:,} to choose the update, {test:,} to judge")
    rows = told.task.loader(held.train.of(one.train), 1, base.limit(options), options.seed).steps_per_epoch
    say(f"tuning: {how.name}, {pace(base, how, options, round(rows))}")
    if refit:
        say("the model that is kept learns from all labelled rows, for as many passes as were best for the seeds (the median)")
    else:
        say("the model that is kept is that of the best seed on the validation rows")


def _refit(
    run: Run, base: Base, task: Task, held: Held, how: Method, options: TuneOptions, trials: list[Trial], say: Say
) -> Fitted:
    """A model of all labelled rows, trained for the median of the best lengths.

    A model knows rows that it has seen at least as well as others know rows that they have not; one that does not has gone
    astray, as tuning on few rows sometimes does, and the next seed is taken.
    """
    epochs = max(1.0, statistics.median(t.epochs for t in trials))
    wanted = statistics.fmean(t.test.get(task.primary, -math.inf) for t in trials)
    dtype = compute_dtype(options.dtype, default_device())
    best: tuple[float, int, Fitted] | None = None
    for seed in range(options.seed, options.seed + AGAIN):
        folder = run.path / "fits" / f"all-rows-seed-{seed}"
        own = Run.open(folder) if (folder / CONFIG).is_file() else Run.create(folder, {"split": "all rows", "seed": seed})
        passes = f"{epochs:.3g} {'pass' if epochs == 1 else 'passes'}"
        say(f"all rows: {counted(len(held.train.numbers), 'row')}, {passes}, seed {seed}")
        fitted = fit(base, task, held.train, (), how, options, seed, own, epochs=epochs, name="all rows", quiet=False)
        predictions, rows = predict(fitted.model, task, base, held.train, dtype, write=False)
        score = task.score(predictions, rows).get(task.primary, math.nan)
        if best is None or score > best[0]:
            best = score, seed, fitted
        if not score < wanted:  # NaN passes
            break
        then = "next seed" if seed + 1 < options.seed + AGAIN else f"the best of them, seed {best[1]}, is kept"
        say(f"all rows: {task.primary} {score:.3f} on the rows it learnt from, below the {wanted:.3f} of the splits: {then}")
    assert best is not None
    return best[2]


def _best(
    run: Run, base: Base, task: Task, how: Method, options: TuneOptions, parts: list[Split], trials: list[Trial], say: Say
) -> Fitted:
    """The model of the seed with the best validation score."""
    chosen = max(range(len(trials)), key=lambda i: trials[i].validation.get(task.primary, -math.inf))
    say(f"kept: {trials[chosen].split}, validation {task.primary} {trials[chosen].validation.get(task.primary, math.nan):.3f}")
    steps = pace(base, how, options, trials[chosen].rows)
    model = base.model(task.head(base.recipe.model), trials[chosen].seed, steps.dropout)
    folder = run.path / "fits" / trial.folder_name(parts[chosen])
    restore_weights(folder / trial.WEIGHTS, model)
    model.eval()
    spec: Any = model.spec
    scores = trials[chosen].validation
    return Fitted(model, spec, scores.get(task.primary, math.nan), scores, steps, folder=folder)


def _finish(run: Run, base: Base, told: Labels, held: Held, final: Fitted, options: TuneOptions) -> dict[str, float]:
    """Write the model, judge it where a test set was given, and gather the predictions."""
    task = told.task
    limit = base.limit(options)
    notes = f"Tuned from {base.name} for {task.name} on {counted(len(told.train), 'labelled row')}."
    recipe = Recipe(base.recipe.name, final.spec, base.recipe.objective, base.recipe.training)
    huggingface.save(
        run.model_dir, final.model, recipe, base.tokenizer, limit, notes=notes, labels=task.labels_of(), problem=task.problem_name
    )
    if final.folder is not None and (final.folder / ADAPTER).is_dir():
        shutil.copytree(final.folder / ADAPTER, run.path / ADAPTER, dirs_exist_ok=True)
    run.config["recipe"] = to_json(recipe)
    run.config["parameters"] = recipe.parameters_total
    parts = [f.read_text(encoding="utf-8") for f in sorted(run.path.glob(f"fits/*/{PREDICTIONS}"))]
    scores: dict[str, float] = {}
    if held.test is not None:
        predictions, rows = predict(final.model, task, base, held.test, compute_dtype(options.dtype, default_device()))
        scores = task.score(predictions, rows)
        parts.append(trial.lines(task, rows, predictions, told.test_places, "kept"))
    write_atomic(run.path / PREDICTIONS, "".join(parts))
    return scores


def write_results(
    run: Run,
    told: Labels,
    parts: list[Split],
    trials: list[Trial],
    rows: list[Row],
    final: dict[str, float],
    verdict: str = "",
) -> None:
    """results.json, and the last lines of run.json and metrics.jsonl."""
    task = told.task
    found = {
        "task": task.name,
        "primary": task.primary,
        "judged": "the test set" if told.test is not None else "rows cut from the labels",
        "rows": [row.to_json() for row in rows],
        "trials": [vars(t) for t in trials],
        "kept": final,
        "verdict": verdict,
    }
    write_atomic(run.path / RESULTS, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for t in trials:
        run.log({"kind": "trial", **vars(t)})
    mine = rows[0]
    run.config["finished"] = {
        "score": {"name": task.primary, "mean": mine.mean(task.primary), "spread": mine.spread(task.primary)},
        "kept": final,
        "trials": len(trials),
        "seconds": sum(t.seconds for t in trials),
    }
    run.save()


def _say_table(run: Run, task: Task, rows: list[Row], final: dict[str, float], say: Say) -> None:
    names = list(dict.fromkeys(name for row in rows for score in row.scores for name in score if name != "loss"))
    width = max(len(row.name) for row in rows)
    say(" " * width + "  " + "  ".join(f"{name:>15}" for name in names))
    for row in sorted(rows, key=lambda r: -r.mean(task.primary)):
        say(f"{row.name:<{width}}  " + "  ".join(f"{results.text(row, name):>15}" for name in names))
    if final:
        say(f"{'the model that is kept':<{width}}  " + "  ".join(f"{final.get(n, math.nan):>15.3f}" for n in names))
    fits = {len(row.scores) for row in rows}
    if 1 in fits and len(fits) > 1:
        say("a line without ± was measured once")


def _told(task: Task, scores: dict[str, float]) -> str:
    shown = {task.primary: scores.get(task.primary, math.nan)} | {k: v for k, v in scores.items() if k != "loss"}
    return ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
