"""`prepare`: from files to a data folder.

    find sources -> cut them into units -> read, clean, store                              every unit, in parallel: round 0
                 -> a survey decides -> apply, clean, store                                 the next rounds, if there are surveys
                 -> decide (repeats, splits, mixture) -> make the tokenizer                 once
                 -> encode                                                                 every unit, in parallel
                 -> pack into shards -> manifest -> rename                                  once

Each step that took long leaves a marker in the journal, so a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genus.modalities.text import Tokenizer
from genus.prepare import dry_run as trying
from genus.prepare import mixture, steps
from genus.prepare import tokenizer as making
from genus.prepare.dataset import Dataset
from genus.prepare.engines import LOCAL, engine
from genus.prepare.plain import SPLIT_MODES
from genus.prepare.plan import Plan
from genus.prepare.preparation import Preparation
from genus.prepare.progress import Progress
from genus.prepare.sources import Found, find
from genus.prepare.splits import Fractions
from genus.prepare.step_files import contents
from genus.prepare.tree import noted
from genus.prepare.units import cut
from genus.prepare.workspace import Workspace

HELD_OUT = 0.05

Paths = str | Path | Sequence[str | Path]
Held = float | str | Path | Sequence[str | Path] | None


def prepare(
    paths: Paths,
    out: str | Path,
    *,
    field: str | None = None,
    tokenizer: str | Path = "bpe",
    vocab: int | None = None,
    min_count: int | None = None,
    split_documents: str = "file",
    validation: Held = None,
    test: Held = None,
    keep_repeats: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    pairs: bool = False,
    fields: Sequence[str] = (),
    steps: Sequence[str | Mapping[str, Any]] = (),
    sources: Sequence[str | Mapping[str, Any]] = (),
    seed: int = 0,
    engine: str = LOCAL,
) -> Dataset:
    """Make a data folder from files, folders or globs.

    Args:
        paths: what to read (docs/sources.md lists the formats): files, folders or globs.
        out: the folder to make. It is built in `OUT.partial`; a killed run given the same arguments continues there.
        field: text field of records; guessed when not given. A number is a column (from 1) of a table without a header line.
        tokenizer: "bpe", "unigram", "bytes", "chars", "words", or the path of an existing one.
        vocab, min_count: see `genus.prepare.tokenizer.build`.
        split_documents: what a document is in plain text: "file", "blank-line" (groups of lines) or "line".
        validation, test: a share to hold out (0.05 when not given), or files that are the ready-made split.
        keep_repeats: keep exact repeats of a document.
        overwrite: replace a data folder that is already there.
        workers: processes; all cores when not given. The result does not depend on it.
        progress: where to tell progress; silent when not given.
        pairs: every document is a source and its target: lines `source TAB target`, two fields of records, or two line-aligned
            files, the source's first. fields: names of the two, guessed when not given.
        steps: cleaning steps and presets, in order, as `genus.prepare.steps.parse` reads them.
        sources: groups of a mixture, as "NAME=PATH@WEIGHT" or {name, path, weight, epochs, cap}; `paths` are then groups without
            a weight.
        seed: which documents are held out, and what steps that throw dice choose.
        engine: "local", "ray" or "ray://HOST:PORT". The result does not depend on it.

    Raises:
        ValueError: with what to do about it.
    """
    progress = progress or Progress("none")
    out = Path(out)
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: at least one is needed")
    asked = _Request(
        paths,
        field,
        tokenizer,
        vocab,
        min_count,
        split_documents,
        validation,
        test,
        keep_repeats,
        pairs,
        fields,
        steps,
        sources,
        seed,
    )
    found, plan, fractions, adopted = asked.plan()
    opened = Workspace.open(out, plan.to_json(), overwrite)
    if opened is None:
        return Dataset.open(out)
    space, continued = opened
    for remark in found.remarks:
        progress.note(remark)
    with _engine(engine, workers) as run:
        return Preparation(space, plan, found, run, progress, continued).run(out, fractions, adopted)


def dry_run(
    paths: Paths,
    *,
    field: str | None = None,
    split_documents: str = "file",
    pairs: bool = False,
    fields: Sequence[str] = (),
    steps: Sequence[str | Mapping[str, Any]] = (),
    sources: Sequence[str | Mapping[str, Any]] = (),
    validation: Held = None,
    test: Held = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    examples: int = 3,
) -> str:
    """Clean a bounded sample and tell what every step would do, with some examples of each rule. Nothing is kept.

    Args: as of `prepare`.
    """
    asked = _Request(
        paths,
        field,
        split_documents=split_documents,
        validation=validation,
        test=test,
        pairs=pairs,
        fields=fields,
        steps=steps,
        sources=sources,
        seed=seed,
    )
    found, plan, _, _ = asked.plan()
    sample = trying.sample(plan)
    with tempfile.TemporaryDirectory(prefix="genus-") as folder, _engine(LOCAL, workers) as run:
        opened = Workspace.open(Path(folder) / "sample", sample.to_json(), overwrite=False)
        assert opened is not None
        trial = Preparation(opened[0], sample, found, run, progress or Progress("none"), continued=False)
        trial.clean()
        trial.tell_sources()
        notes = noted(trial.remarks, found.skipped)
        return trying.account(opened[0], sample, plan, notes, examples)


_engine, _parse = engine, steps.parse


@dataclass(frozen=True)
class _Request:
    """What the user asked for, as far as the result depends on it."""

    paths: Paths
    field: str | None = None
    tokenizer: str | Path = "bytes"
    vocab: int | None = None
    min_count: int | None = None
    split_documents: str = "file"
    validation: Held = None
    test: Held = None
    keep_repeats: bool = False
    pairs: bool = False
    fields: Sequence[str] = ()
    steps: Sequence[str | Mapping[str, Any]] = ()
    sources: Sequence[str | Mapping[str, Any]] = ()
    seed: int = 0

    def plan(self) -> tuple[Found, Plan, Fractions, Tokenizer | None]:
        """Look at the sources and decide what is to be done; the tokenizer, when it is an existing one."""
        if self.split_documents not in SPLIT_MODES:
            raise ValueError(f"--split-documents {self.split_documents}: choose one of {', '.join(SPLIT_MODES)}")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: give a number from 0 up")
        pairs = self.pairs or bool(self.fields)
        if pairs and self.field is not None:
            raise ValueError("--field names the text of single documents; of pairs name both sides, as in --fields de,en")
        chosen = _parse(self.steps, self.seed, pairs)
        paths, shares, groups = self._groups()
        found = find(
            paths, _files(self.validation), _files(self.test), self.field, list(self.fields) if pairs else None, groups=groups
        )
        fractions = _fractions(found, self.validation, self.test)
        adopted = None if making.is_built_in(str(self.tokenizer)) else making.adopt(self.tokenizer)
        options = {
            "tokenizer": str(self.tokenizer),
            "tokenizer_hash": hashlib.sha256(adopted.core.to_str().encode()).hexdigest() if adopted else None,
            "vocab": self.vocab,
            "min_count": self.min_count,
            "validation": fractions.validation,
            "test": fractions.test,
            "keep_repeats": self.keep_repeats,
            "pairs": pairs,
            "seed": self.seed,
        } | ({"files_of_steps": files} if (files := contents(chosen)) else {})
        units = cut(found.sources, self.split_documents)
        return found, Plan(found.sources, units, self.split_documents, options, chosen, shares), fractions, adopted

    def _groups(self) -> tuple[list[str | Path], tuple[mixture.Share, ...], list[str | None]]:
        """What to read, the groups of the mixture, and the group of every path."""
        paths = [self.paths] if isinstance(self.paths, str | Path) else list(self.paths)
        if not self.sources:
            return paths, (), []
        given = [{"name": str(path), "path": str(path)} for path in paths]
        shares = mixture.shares([*given, *self.sources])
        return [share.path for share in shares], shares, [share.name for share in shares]


def _files(value: Any) -> list[str | Path]:
    if value is None or isinstance(value, int | float):
        return []
    return [value] if isinstance(value, str | Path) else list(value)


def _fractions(found: Found, validation: Any, test: Any) -> Fractions:
    """Shares to hold out of what is ours to split: none for a split that is ready-made; beside one, a test set only if asked."""
    ready = {source.split for source in found.sources}

    def share(name: str, value: Any) -> float:
        if name in ready:
            return 0.0
        if value is None:
            return 0.0 if name == "test" and ready != {None} else HELD_OUT
        return float(value)

    return Fractions(share("validation", validation), share("test", test))
