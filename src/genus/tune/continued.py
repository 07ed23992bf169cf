"""Continued pre-training: a trained model goes on learning from unlabelled text, and what it knew is measured too.

Rows of earlier data among the new keep a model from forgetting (Ibrahim et al. 2024, "Simple and scalable strategies to
continually pre-train large language models", section 6).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

from genus.parts.model import Model
from genus.prepare.dataset import MANIFEST, Dataset
from genus.recipes.recipe import Recipe
from genus.run import Run, load, must_be_free, write_atomic
from genus.spec import from_json
from genus.train.options import TrainOptions
from genus.train.record import same_data
from genus.train.replay import Replay
from genus.train.start import assemble, settle, start
from genus.train.start import resume as resume_training
from genus.train.take_up import take_up
from genus.train.telemetry import Telemetry
from genus.tune.options import TuneOptions
from genus.tune.task import Say

RESULTS = "results.json"
SHARED = tuple(f.name for f in fields(TuneOptions) if f.name in {g.name for g in fields(TrainOptions)} - {"patience"})
"""Options of tuning that training has too; patience counts the evaluations of a fit, of which training has few."""
OWN = ("replay", "replay_share")

Scores = dict[str, dict[str, float]]


def is_continued(run: Run) -> bool:
    """Whether a run was begun here."""
    return "before" in run.config


def is_prepared(labels: str | Path) -> bool:
    """Whether the labels are none, but a prepared data folder."""
    return (Path(labels) / MANIFEST).is_file()


def continue_training(source: str | Path, data_path: str | Path, out: str | Path, options: TuneOptions, say: Say = print) -> Run:
    """Train a run or a model folder further on prepared data, and measure it before and after, on the new and the old.

    Args:
        options: the budget (tokens, seconds or epochs), and `replay`: earlier data, of which `replay_share` of the rows come.
            With a share of 0 the earlier data is only measured.

    Raises:
        ValueError: an option that belongs to labels, or data of another tokenizer; the message says how to prepare it again.
    """
    wishes = train_options(options)
    must_be_free(out)
    if not Path(source).exists():
        raise ValueError(f"{source} is no trained model that could go on; train one: genus train {source} {data_path} -o RUN")
    data = Dataset.open(data_path)
    old = None if options.replay is None else Dataset.open(options.replay)
    for each in (data, old):
        if each is not None:
            _speaks(each, source)
    replay = None if options.replay is None else Replay(options.replay, options.replay_share)
    recipe, model, tokenizer = take_up(Path(source), data, wishes, lambda _: None)
    recipe = settle(recipe, tokenizer)
    say("measured before: on the validation rows of the new data" + (" and of the old" if old else ""))
    before = _measure(recipe, model, data, old, wishes)
    del model
    said = replay and f"replay: {replay.share:.0%} of the rows come from {replay.path}"
    say(said or "replay: none, so what the model knew may fade; --replay OLD_DATA measures it, and mixes rows of it in")
    return _finish(start(str(source), data_path, out, wishes, say, replay=replay, also={"before": before}), say)


def resume(path: str | Path, say: Say = print) -> Run:
    """Go on with a run that was interrupted, and measure it at its end."""
    return _finish(resume_training(path, say), say)


def train_options(options: TuneOptions) -> TrainOptions:
    """The options of tuning as those of training.

    Raises:
        ValueError: one of them has no meaning without labels.
    """
    plain = TuneOptions()
    changed = {f.name for f in fields(TuneOptions) if getattr(options, f.name) != getattr(plain, f.name)}
    if foreign := sorted(changed - {*SHARED, *OWN}):
        names = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise ValueError(
            f"{names}: of no use here, for this is unlabelled prepared data; the model goes on with its own objective"
        )
    return TrainOptions(**{name: getattr(options, name) for name in SHARED})


def _speaks(data: Dataset, source: str | Path) -> None:
    """Raises ValueError: the data was prepared with another tokenizer than the model's."""
    tokenizer = load(source).tokenizer
    if tokenizer is not None and tokenizer.extends(data.tokenizer):
        return
    names = [each["name"] for each in data.manifest.get("sources", [])]
    texts = " ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    raise ValueError(
        f"{data.root} was prepared with another tokenizer than {source} uses. Prepare the texts again with the model's own: "
        f"genus prepare {texts or 'TEXTS'} -o {data.root}-again --tokenizer {source}"
    )


def _finish(run: Run, say: Say) -> Run:
    """Measure the trained model, and write and print the table."""
    from genus.report import report

    data = same_data(run.config)
    replay = run.config.get("replay")
    old = same_data({"data": replay}) if replay else None
    recipe = from_json(run.config["recipe"])
    after = _measure(recipe, load(run.path).model, data, old, TrainOptions.from_json(run.config["options"]))
    found = {"task": "continued", "replay": replay, "before": run.config.get("before", {}), "after": after}
    write_atomic(run.path / RESULTS, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    report([run.path])
    for line in table(found["before"], after):
        say(line)
    return run


def table(before: Scores, after: Scores) -> list[str]:
    """Lines: each score of each corpus, before and after."""
    lines = [f"{'':<28}{'before':>10}{'after':>10}{'change':>10}"]
    for corpus, scores in after.items():
        for name, value in scores.items():
            was = before.get(corpus, {}).get(name)
            told = f"{corpus} data, {name.replace('_', ' ')}"
            lines.append(f"{told:<28}" + ("" if was is None else f"{was:>10.4f}{value:>10.4f}{value - was:>+10.4f}"))
    return lines


def _measure(recipe: Recipe, model: Any, data: Dataset, old: Dataset | None, options: TrainOptions) -> Scores:
    """What the objective tells of the fixed validation rows of both corpora."""
    assert isinstance(recipe.model, Model)
    found = {}
    for name, each in (("new", data), ("old", old)):
        if each is None:
            continue
        with tempfile.TemporaryDirectory(prefix="genus-measure-") as folder:
            run = Run.create(Path(folder) / "run", {"lr": 0.0, "steps": 1, "seconds": None})
            trainer = assemble(run, each, recipe, options, Telemetry(run, None, 1.0, 1.0, quiet=True), model)
            if trainer.validation is None:
                raise ValueError(f"{each.root} has no validation split to measure on; prepare it again with --validation 0.05")
            parts = trainer.measure()
        sums = {k: (sum(p[k][0] for p in parts), sum(p[k][1] for p in parts)) for k in parts[0]}
        found[name] = {k: total / max(1, count) for k, (total, count) in sums.items()}
        if recipe.objective.likelihood:
            found[name]["bits_per_byte"] = trainer.bits(found[name]["loss"])
    return found
