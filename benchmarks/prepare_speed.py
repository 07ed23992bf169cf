"""How fast `genus prepare` is, and how much memory it takes, beside datatrove and `datasets.map`.

    python -m benchmarks.prepare_speed --peer VENV/bin/python              # 200 MB; datatrove on 20 MB of the same kind
    python -m benchmarks.prepare_speed --peer VENV/bin/python --megabytes 20
    python -m benchmarks.prepare_speed --show                             # the tables of what is there

The peer's environment, which needs nothing of Genus, is made by

    python -m venv VENV
    VENV/bin/pip install datatrove spacy jieba tokenizers "xxhash<4" orjson ftfy fasttext-numpy2-wheel fasteners

and `datasets` belongs into the environment of Genus (extra "bench").

Corpus: everything textual in $GENUS_DATA, and the documentation of the installed packages, in English, Chinese and a little
German; two fifths are copies of documents, unchanged or with 2 to 50 % of the words replaced (`_prepare_corpus.py`).

* clean: from JSON lines to the finished folder of tokens with the steps of STEPS, on `--peer-megabytes`, and the same filters in
  datatrove's local executor (`_datatrove_prepare.py`);
* whole: the same on all of `--megabytes`, Genus alone;
* tokenize: no steps, with the same tokenizer as `datasets.map` (from the files to a data set) and as `tokenizers` alone, with the
  texts in memory and nothing written;
* steps: each step of Genus by itself, in one process with one thread; datatrove's are those of "clean".

Programs take turns, each in processes of its own on all processors. A turn in which others used more than a tenth of the
processors is done again. Every result is kept in the folder as it comes, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from benchmarks import _prepare_corpus, _prepare_steps
from benchmarks._processes import Usage, run
from benchmarks._quiet import quiet

STEPS = (
    "unicode",
    "language:keep=en+zh",
    "repetition",
    "gopher",
    "c4:terminal=no",
    "fineweb",
    "chinese",
    "near-duplicates",
    "personal-data:kinds=email+ip",
)
"""Those of the preset "web" that datatrove has too; it has English rules for Chinese where "chinese" has its own."""
VOCAB = 16_384
NEEDED = "datatrove, spacy, jieba, ftfy, fasttext, orjson"
HERE = Path(__file__).parent

Part = Literal["clean", "whole", "tokenize", "steps"]


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        megabytes: of the corpus. peer_megabytes: of the one that datatrove cleans too.
        only: parts. rounds: turns of each program. retries: how often a turn that was not quiet is done again.
        peer: an interpreter that has datatrove (default: this one). workers: processes of each program; None = all cores.
        folder: where corpora and results are kept. show: print what is there, and measure nothing.
    """

    megabytes: int = 200
    peer_megabytes: int = 20
    only: tuple[Part, ...] = ("tokenize", "clean", "whole", "steps")
    rounds: int = 2
    retries: int = 2
    peer: Path = Path(sys.executable)
    workers: int | None = None
    folder: Path = Path(tempfile.gettempdir()) / "genus-prepare-speed"
    show: bool = False


@dataclass(frozen=True)
class Bench:
    """Corpora, the tokenizer, and where the results are."""

    options: Options

    @property
    def workers(self) -> int:
        return self.options.workers or len(os.sched_getaffinity(0))

    @property
    def corpus(self) -> Path:
        return _prepare_corpus.build(self._corpus(self.options.megabytes), self.options.megabytes * 10**6)

    @property
    def slice(self) -> Path:
        """The corpus of the peer."""
        size = min(self.options.peer_megabytes, self.options.megabytes)
        return _prepare_corpus.build(self._corpus(size), size * 10**6)

    def _corpus(self, megabytes: int) -> Path:
        return self.options.folder / f"corpus-{megabytes}"

    @property
    def tokenizer(self) -> Path:
        """A BPE learnt from the smaller corpus."""
        data = self.options.folder / "tokenizer"
        if not data.exists():
            genus(self.slice, data, "--vocab", VOCAB)
        return data / "tokenizer"

    def result(self, part: str, name: str, turn: int) -> Path:
        large = part in ("whole", "tokenize")
        size = self.options.megabytes if large else min(self.options.peer_megabytes, self.options.megabytes)
        return self.options.folder / "results" / f"{part}.{size}.{name}.{turn}.json"

    def measure(self, part: str, name: str, turn: int, work: Callable[[Path], Usage], facts: Facts) -> None:
        """One turn of a program, unless it is known: its cost, and what `facts` says of what it left in its folder."""
        path = self.result(part, name, turn)
        if path.exists():
            return
        usages: list[Usage] = []
        folder = self.options.folder / "out"

        def once() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            usages.append(work(folder))

        windows = []
        for _ in range(1 + self.options.retries):
            windows.append(quiet(once, retries=0))
            if windows[-1].quiet:
                break
        best = min(range(len(windows)), key=lambda i: windows[i].others)
        told = asdict(usages[best]) | {"others": windows[best].others} | facts(folder, usages[-1])
        del told["output"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1), encoding="utf-8")
        print(f"{part} {name}, turn {turn + 1}: {told['seconds']:.1f} s, others {told['others']:.0%}", flush=True)


Facts = Callable[[Path, Usage], dict[str, Any]]


def main(options: Options) -> None:
    bench = Bench(options)
    if not options.show:
        _ = bench.corpus, bench.slice, bench.tokenizer
        parts = {"tokenize": tokenize, "clean": clean, "whole": whole, "steps": steps}
        for part in options.only:
            parts[part](bench)
        shutil.rmtree(options.folder / "out", ignore_errors=True)
    show(bench)


# -- contestants -------------------------------------------------------------------------------------------------------------


def genus(corpus: Path, out: Path, *words: object) -> Usage:
    return run([sys.executable, "-m", "genus", "prepare", corpus, "-o", out, *words, "--quiet"])


def prepared(bench: Bench, corpus: Path, *words: object) -> Callable[[Path], Usage]:
    own = ("--tokenizer", bench.tokenizer, "--workers", bench.workers, *words)
    return lambda folder: genus(corpus, folder / "data", *own)


def tokenize(bench: Bench) -> None:
    """Reading, tokenizing, writing."""
    corpus, workers = bench.corpus, bench.workers

    def peer(which: str) -> Callable[[Path], Usage]:
        script = HERE / "_tokenize_peers.py"
        tokenizer = bench.tokenizer / "tokenizer.json"
        environment = {"RAYON_NUM_THREADS": str(workers)}
        return lambda folder: run([sys.executable, script, which, corpus, folder, tokenizer, workers], environment)

    for turn in range(bench.options.rounds):
        bench.measure("tokenize", "genus", turn, prepared(bench, corpus, "--keep-repeats"), manifest)
        bench.measure("tokenize", "datasets", turn, peer("datasets"), printed)
        bench.measure("tokenize", "tokenizers", turn, peer("tokenizers"), printed)


def clean(bench: Bench) -> None:
    """All steps, and the same in datatrove."""
    corpus, script = bench.slice, HERE / "_datatrove_prepare.py"
    missing = subprocess.run([bench.options.peer, "-c", f"import {NEEDED}"], capture_output=True, check=False).returncode
    if missing:
        print(f"{bench.options.peer} has not all of {NEEDED}: give --peer the Python of an environment that has them")

    def datatrove(folder: Path) -> Usage:
        words = (corpus, folder, bench.tokenizer / "tokenizer.json", _prepare_steps.language_model(), bench.workers)
        return run([bench.options.peer, script, *words], {"HF_ASSETS_CACHE": str(folder), "TOKENIZERS_PARALLELISM": "false"})

    for turn in range(bench.options.rounds):
        bench.measure("clean", "genus", turn, prepared(bench, corpus, "--steps", *STEPS), partial(ours, corpus))
        if not missing:
            bench.measure("clean", "datatrove", turn, datatrove, partial(theirs, corpus))


def whole(bench: Bench) -> None:
    """All steps on the larger corpus."""
    for turn in range(bench.options.rounds):
        work = prepared(bench, bench.corpus, "--steps", *STEPS)
        bench.measure("whole", "genus", turn, work, partial(ours, bench.corpus))


def steps(bench: Bench) -> None:
    """Each step of ours, in one process with one thread."""
    environment = dict.fromkeys(("RAYON_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks._prepare_steps", bench.slice, bench.tokenizer, *STEPS]
    for turn in range(bench.options.rounds):
        bench.measure("steps", "genus", turn, lambda _: run(command, environment), printed)


# -- what they left ----------------------------------------------------------------------------------------------------------


def manifest(folder: Path, usage: Usage) -> dict[str, Any]:
    splits = json.loads((folder / "data" / "manifest.json").read_text(encoding="utf-8"))["splits"].values()
    return {name: sum(split[name] for split in splits) for name in ("documents", "tokens")}


def printed(folder: Path, usage: Usage) -> dict[str, Any]:
    return {"told": json.loads(usage.output.splitlines()[-1])}


def ours(corpus: Path, folder: Path, usage: Usage) -> dict[str, Any]:
    """Documents, tokens, and which of the planted copies were found."""
    last = [step.partition(":")[0] for step in STEPS].index("near-duplicates")
    steps = [step.partition(":")[0] for step in STEPS[: last + 1]]
    dropped: dict[tuple[str, int], str] = {}
    for step in ("read", *steps):
        file = folder / "data" / "rejected" / f"{step}.jsonl"
        for line in file.read_bytes().splitlines() if file.exists() else ():
            record = json.loads(line)
            if record["action"] == "dropped":
                dropped[Path(record["source"]).name, record["line"]] = step
    by = {record["id"]: dropped.get((name, line)) for name, line, record in _prepare_corpus.records(corpus)}
    entered = {one for one, step in by.items() if step in (None, "near-duplicates")}
    found = _prepare_corpus.found(corpus, entered, {one for one in entered if by[one]})
    return manifest(folder, usage) | {"copies": found}


def theirs(corpus: Path, folder: Path, usage: Usage) -> dict[str, Any]:
    """The same of datatrove."""

    def ids(of: str) -> set[str]:
        paths = list((folder / of).glob("*/*.jsonl"))
        return {json.loads(line)["id"] for path in paths for line in path.read_bytes().splitlines()}

    entered, dropped = ids("cleaned"), ids("excluded")
    told = {"documents": len(entered) - len(dropped), "copies": _prepare_corpus.found(corpus, entered, dropped)}
    return printed(folder, usage) | told


# -- tables ------------------------------------------------------------------------------------------------------------------


def show(bench: Bench) -> None:
    from benchmarks._prepare_tables import tables

    print(tables(bench.options.folder / "results", [step.partition(":")[0] for step in STEPS]))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
