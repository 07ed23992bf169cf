"""Run probes on a trained model, or on an architecture."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genus.evaluate.evaluation import WINDOW, context_of
from genus.evaluate.probes.labels import Example, read_labels
from genus.evaluate.probes.reading import Subject
from genus.evaluate.probes.registry import PROBES, Probe, parse
from genus.evaluate.probes.result import ProbeResult
from genus.evaluate.scoring import how
from genus.modalities.text import Tokenizer
from genus.parts.ngram import NGram
from genus.prepare.dataset import Dataset, Split
from genus.prepare.progress import Progress
from genus.recipes import names
from genus.recipes.recipe import Recipe
from genus.run import Loaded, load, write_atomic
from genus.train.machine import default_device
from genus.train.record import same_data

FILE = "probes.json"  # in a run directory: the newest result of each probe
SECONDS = 60.0  # for each probe that trains
CARRIED = 1024  # positions that a model is read over whose state goes on without end


def run(
    model: str | Path | Loaded | Recipe,
    probes: Sequence[str] = (),
    *,
    data: str | Path | Dataset | None = None,
    split: str = "validation",
    labels: str | Path | Sequence[Example] = (),
    window: int | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[ProbeResult]:
    """Run probes on a left-to-right model, or on an architecture.

    Args:
        model: a run, a folder in Hugging Face layout, or one already loaded. For probes that train also a recipe or its name.
        probes: names; () = all that read the model and have what they need.
        data: prepared data in the model's tokens; None = the run's own. labels: a file, or examples.
        window: positions that the model is read over; None = its context, at most 2,048, and 1,024 of what carries a state.
        seconds: for each probe that trains.

    Raises:
        ValueError: no such probe, a model that sees both sides, or something that a probe needs is not there.
    """
    chosen = parse(probes)
    progress = progress or Progress("none")
    if isinstance(model, Recipe) or (isinstance(model, str) and not Path(model).exists() and model in names()):
        return [_trained(p, model, seconds, seed, progress) for p in _only_training(chosen)]
    loaded = load(model) if not isinstance(model, Loaded) else model
    how(loaded.spec)
    if chosen and all(p.kind == "train" for p in chosen):
        return [_trained(p, architecture(loaded), seconds, seed, progress) for p in chosen]
    opened, why = _text(loaded, data, split)
    examples = tuple(read_labels(labels, progress.note) if isinstance(labels, str | Path) else labels)
    if not chosen:
        given = {"vocabulary": True, "text": opened is not None, "labels": bool(examples)}
        chosen = tuple(p for p in PROBES.values() if p.kind == "read" and given[p.needs])
        if opened is None:
            progress.note(f"without the probes 'context' and 'position': {why}")
    if opened is None and any(p.needs == "text" for p in chosen):
        raise ValueError(f"the probes 'context' and 'position' read text, and {why}")
    subject = Subject(
        name=_name(loaded),
        model=loaded.model if isinstance(loaded.spec, NGram) else loaded.model.to(default_device()).eval(),
        spec=loaded.spec,
        tokenizer=_tokenizer(loaded, opened),
        length=_length(loaded, window),
        split=opened,
        labels=examples,
        seed=seed,
    )
    results = []
    for probe in chosen:
        if probe.kind == "train":
            results.append(_trained(probe, architecture(loaded), seconds, seed, progress))
        else:
            progress.note(f"{probe.name}: {probe.title}")
            results.append(_read(probe, subject))
    return results


def probe_score(
    recipe: str | Recipe, probe: str, seconds: float = SECONDS, seed: int = 0, updates: int | None = None
) -> ProbeResult:
    """Train a small model of a recipe on a probe's task. Rank recipes by the result's `loss` (positive, lower is better).

    Args:
        recipe: a name = the small size that all are compared at; a recipe = its own size, with the task's vocabulary.
        updates: instead of the seconds, so that the result depends on the seed alone.

    Raises:
        ValueError: no such probe, one that only reads trained models, or a recipe that sees both sides of a token.
    """
    (found,) = _only_training(parse([probe]))
    assert found.train is not None
    return found.train(recipe, seconds, seed, updates)


def architecture(loaded: Loaded) -> str | Recipe:
    """What is trained in a model's place: its recipe's name, or its own shape where it has none."""
    name = (loaded.config.get("recipe") or {}).get("name") or ""
    return name if name in names() else Recipe(name=loaded.path.resolve().name, model=loaded.spec)


def _trained(probe: Probe, recipe: str | Recipe, seconds: float, seed: int, progress: Progress) -> ProbeResult:
    progress.note(f"{probe.name}: {probe.title}; training for {seconds:g} s")
    return probe_score(recipe, probe.name, seconds, seed)


def _only_training(chosen: Sequence[Probe]) -> Sequence[Probe]:
    trainable = ", ".join(p.name for p in PROBES.values() if p.kind == "train")
    if not chosen:
        raise ValueError(f"name the probes to train for: {trainable}")
    for probe in chosen:
        if probe.kind == "read":
            raise ValueError(
                f"the probe {probe.name!r} reads a trained model, and an architecture is none; it can be: {trainable}"
            )
    return chosen


def _read(probe: Probe, subject: Subject) -> ProbeResult:
    assert probe.read is not None
    begin = time.perf_counter()
    before = len(subject.notes)
    result = probe.read(subject)
    notes = (*result.notes, *subject.notes[before:])
    return dataclasses.replace(result, notes=notes, seconds=time.perf_counter() - begin)


def write(path: Path, results: Sequence[ProbeResult], model: str) -> None:
    """Put the results into a file, beside those of other probes that it holds already."""
    kept: dict[str, Any] = {}
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8")).get("probes", {})
    kept |= {result.probe: result.to_json() for result in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = {name: kept[name] for name in PROBES if name in kept}
    write_atomic(path, json.dumps({"format": 1, "model": model, "probes": ordered}, indent=1, ensure_ascii=False) + "\n")


def _text(loaded: Loaded, data: str | Path | Dataset | None, split: str) -> tuple[Split | None, str]:
    """Held-out text in the model's own tokens, or why there is none."""
    if data is None:
        if not (loaded.config.get("data") or {}).get("path"):
            return None, "no DATA was given"
        try:
            opened = same_data(loaded.config)
        except (OSError, ValueError) as error:
            return None, f"the run's own data cannot be read ({error}); give DATA"
        if not (opened.manifest["splits"].get(split) or {}).get("documents"):
            return None, f"{opened.root} has no {split} split"
        return opened.split(split), ""
    opened = data if isinstance(data, Dataset) else Dataset.open(data)
    own = loaded.tokenizer or opened.tokenizer
    if own.fingerprint != opened.tokenizer.fingerprint:
        raise ValueError(
            f"the model has another tokenizer than {opened.root}; prepare the text again with --tokenizer {loaded.path}"
        )
    return opened.split(split), ""


def _tokenizer(loaded: Loaded, split: Split | None) -> Tokenizer:
    if loaded.tokenizer is not None:
        return loaded.tokenizer
    if split is None:
        raise ValueError(f"{loaded.path} has no tokenizer; put its tokenizer.json there, or give DATA")
    return Tokenizer.load(split.folder.parent / "tokenizer")


def _length(loaded: Loaded, window: int | None) -> int:
    if window is not None and window < 1:
        raise ValueError(f"--window must be at least 1, not {window}")
    made_for = min(context_of(loaded) or WINDOW, WINDOW) if how(loaded.spec) == "slide" else CARRIED
    longest = loaded.spec.context  # type: ignore[attr-defined]
    return min(window or made_for, longest) if longest else window or made_for


def _name(loaded: Loaded) -> str:
    recipe = (loaded.config.get("recipe") or {}).get("name")
    name = loaded.path.resolve().name
    return f"{name} ({recipe})" if recipe and recipe != name else name
