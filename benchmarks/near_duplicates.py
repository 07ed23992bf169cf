"""How many near-duplicates are found: planted edits, against datatrove's MinHash at the same settings and against theory.

    python -m benchmarks.near_duplicates                            # English and Chinese; datatrove when it is installed
    python -m benchmarks.near_duplicates --peer VENV/bin/python     # where it is: datatrove spacy jieba tokenizers "xxhash<4"
    python -m benchmarks.near_duplicates --verify --threshold 0.3 --shingle 3

Of every planted pair, one is a document as it is and one has a share of its words (in Chinese: characters) replaced by others of
the corpus, drawn at random. Recall: pairs of which one was dropped. Precision: dropped documents that have a planted partner that
was kept. Theory: the mean of 1 - (1 - s^r)^b over the true similarities s of the pairs, in our shingles.

Corpora are read from $GENUS_DATA: WikiText-2 (validation and test) in stretches of words, Tang poems in stretches of characters.
Seconds are of one processor, from the file of JSON lines to the documents that are left, without imports.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tyro

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.minhash import chance
from genus.prepare.steps.near_duplicates import NearDuplicates
from genus.prepare.words import find_words, windows

SHARED = Path(os.environ.get("GENUS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
LANGUAGES = {"en": "eng", "zh": "zho_Hani"}
"""Our name of a language, and datatrove's."""


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        languages: en, zh. pairs: planted for every share. words: of a document (zh: characters).
        threshold, shingle, verify, seed: of the step. peer: an interpreter that has datatrove (default: this one).
        json: also write the results there.
    """

    languages: tuple[str, ...] = ("en", "zh")
    pairs: int = 300
    words: int = 120
    threshold: float = 0.8
    shingle: int = 5
    verify: bool = False
    seed: int = 1
    peer: Path = Path(sys.executable)
    json: Path | None = None


@dataclass(frozen=True)
class Corpus:
    """Documents in a random order; `partner[i]` is the other of a planted pair or -1, `share[i]` how much of it was changed."""

    texts: list[str]
    partner: list[int]
    share: list[float]


@dataclass(frozen=True)
class Found:
    """What a program dropped, and the processor seconds it took."""

    dropped: frozenset[int]
    seconds: float
    name: str


def main(options: Options) -> None:
    results = {}
    for language in options.languages:
        corpus = plant(documents(language, options.words), language, options)
        step = NearDuplicates(threshold=options.threshold, shingle=options.shingle, keep="first", seed=options.seed)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "documents.jsonl"
            lines = (json.dumps({"id": str(i), "text": text}, ensure_ascii=False) for i, text in enumerate(corpus.texts))
            source.write_text("\n".join(lines) + "\n", encoding="utf-8")
            found = [ours(step, source, Path(folder) / "ours")]
            if options.verify:
                found.append(ours(replace(step, verify=True), source, Path(folder) / "verified"))
            found += peer(step, source, Path(folder) / "datatrove", language, options)
        results[language] = show(language, corpus, step, found)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def documents(language: str, words: int) -> list[list[str]]:
    """Stretches of a corpus, as lists of words or of characters."""
    if language == "en":
        folder = SHARED / "wikitext2_valid_test"
        units = re.findall(r"\S+", "".join((folder / f"{name}.txt").read_text(encoding="utf-8") for name in ("valid", "test")))
    else:
        files = sorted((SHARED / "tang_poetry").glob("*.gz"))
        units = list(re.sub(r"\s", "", "".join(gzip.decompress(file.read_bytes()).decode() for file in files)))
    return [units[start : start + words] for start in range(0, len(units) - words, words)]


def plant(base: list[list[str]], language: str, options: Options) -> Corpus:
    """Copies with a share of words changed, among documents that have none."""
    draw = random.Random(options.seed)
    wanted = options.pairs * len(SHARES) * 4 // 3
    if len(base) < wanted:
        raise SystemExit(
            f"{language}: {len(base):,} documents are too few for {options.pairs} pairs of each share: lower --pairs"
        )
    base = draw.sample(base, wanted)
    pool = [unit for document in base for unit in document if any(c.isalnum() for c in unit)]
    join = " " if language == "en" else ""
    texts, partner, share = [], [], []
    for number, document in enumerate(base):
        planted = number < options.pairs * len(SHARES)
        of = SHARES[number % len(SHARES)] if planted else -1.0
        texts.append(join.join(document))
        partner.append(len(texts) if planted else -1)
        share.append(of)
        if planted:
            words = [i for i, unit in enumerate(document) if any(c.isalnum() for c in unit)]
            copy = list(document)
            for place in draw.sample(words, round(of * len(words))):
                while copy[place] == document[place]:
                    copy[place] = draw.choice(pool)
            texts.append(join.join(copy))
            partner.append(len(texts) - 2)
            share.append(of)
    order = draw.sample(range(len(texts)), len(texts))
    place = {old: new for new, old in enumerate(order)}
    return Corpus([texts[i] for i in order], [place.get(partner[i], -1) for i in order], [share[i] for i in order])


def ours(step: NearDuplicates, source: Path, folder: Path) -> Found:
    import scipy.sparse.csgraph  # noqa: F401 (imports are not to count)

    folder.mkdir()
    find_words(pa.array(["load it"], type=pa.large_string()))
    step.decide([], folder, 0)
    begin = time.process_time()
    with open(source, encoding="utf-8") as file:
        batches = list(batches_of(Document(json.loads(line)["text"], line=number) for number, line in enumerate(file, 1)))
    table = pa.concat_tables([table for batch in batches if (table := step.observe(batch)) is not None])
    step.decide([(0, table)], folder, 0)
    function = step.apply(folder, 0)
    dropped = set()
    with gzip.open(folder / "kept.jsonl.gz", "wt", encoding="utf-8") as kept:
        for batch in batches:
            outcome = function(batch)
            dropped |= {drop.row for drop in outcome.drops}
            for row, text in zip(outcome.batch["row"].to_pylist(), outcome.batch["text"].to_pylist()):
                kept.write(json.dumps({"id": row, "text": text}, ensure_ascii=False) + "\n")
    return Found(frozenset(dropped), time.process_time() - begin, "genus, verified" if step.verify else "genus")


def peer(step: NearDuplicates, source: Path, folder: Path, language: str, options: Options) -> list[Found]:
    """datatrove's result; nothing where it is not installed."""
    if subprocess.run([options.peer, "-c", "import datatrove"], capture_output=True, check=False).returncode:
        print(f"{options.peer} has no datatrove: give --peer the Python of an environment that has it")
        return []
    folder.mkdir()
    script = Path(__file__).with_name("_datatrove_minhash.py")
    numbers = map(str, (*step.bands, step.shingle, options.seed))
    done = subprocess.run(
        [options.peer, script, source, folder, LANGUAGES[language], *numbers], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return [Found(frozenset(map(int, told["dropped"])), told["seconds"], f"datatrove {told['version']}")]


def similarities(corpus: Corpus, shingle: int) -> np.ndarray:
    """True Jaccard similarity of every document and its partner, in our shingles; nan for those without one."""
    values, offsets = windows(find_words(pa.array(corpus.texts, type=pa.large_string())), shingle, short=True)
    sets = [set(values[one:two].tolist()) for one, two in pairwise(offsets)]
    return np.array([len(s & sets[j]) / len(s | sets[j]) if j >= 0 else np.nan for s, j in zip(sets, corpus.partner)])


def show(language: str, corpus: Corpus, step: NearDuplicates, found: list[Found]) -> dict[str, Any]:
    """Print the table of one language."""
    bands, rows = step.bands
    share, similarity = np.array(corpus.share), similarities(corpus, step.shingle)
    print(
        f"\n{language}: {len(corpus.texts):,} documents, {int((share == 0).sum()) // 2} pairs of each share; "
        f"{bands} bands of {rows} rows, shingles of {step.shingle}"
    )
    print(f"{'changed':>8}{'similarity':>12}{'theory':>9}" + "".join(f"{each.name:>20}" for each in found))
    table = []
    for of in SHARES:
        members = np.flatnonzero(share == of)
        pairs = [(i, corpus.partner[i]) for i in members if i < corpus.partner[i]]
        recall = [sum((i in each.dropped) or (j in each.dropped) for i, j in pairs) / len(pairs) for each in found]
        theory = float(np.mean([chance(s, bands, rows) for s in similarity[members]]))
        table.append({"changed": of, "similarity": float(similarity[members].mean()), "theory": theory, "recall": recall})
        cells = "".join(f"{each:>20.3f}" for each in recall)
        print(f"{of:>8.0%}{similarity[members].mean():>12.3f}{theory:>9.3f}{cells}")
    right = [sum(corpus.partner[i] >= 0 and corpus.partner[i] not in each.dropped for i in each.dropped) for each in found]
    precision = [count / max(1, len(each.dropped)) for count, each in zip(right, found)]
    print(f"{'precision':>29}" + "".join(f"{each:>20.4f}" for each in precision))
    print(f"{'dropped':>29}" + "".join(f"{len(each.dropped):>20,}" for each in found))
    print(f"{'documents per CPU second':>29}" + "".join(f"{len(corpus.texts) / each.seconds:>20,.0f}" for each in found))
    names = [each.name for each in found]
    return {"programs": names, "shares": table, "precision": precision, "seconds": [each.seconds for each in found]}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
