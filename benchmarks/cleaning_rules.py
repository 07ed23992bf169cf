"""The rules of quality against datatrove's on the same texts: what both drop, and how fast. Languages: how many are right.

    python -m benchmarks.cleaning_rules                          # datatrove when it is installed
    python -m benchmarks.cleaning_rules --peer VENV/bin/python   # where it is: datatrove spacy

Texts: articles of WikiText-2, the metadata of the installed packages, and LibreOffice's help in pages of 20 paragraphs, the
white space around lines removed. Languages are asked of single sentences and reviews. Corpora: $GENUS_DATA. Seconds are of one
processor.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pyarrow as pa
import tyro

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.c4 import C4
from genus.prepare.steps.fineweb import FineWeb
from genus.prepare.steps.gopher import Gopher
from genus.prepare.steps.language import detect, load
from genus.prepare.steps.repetition import Repetition
from genus.prepare.steps.step import Step

SHARED = Path(os.environ.get("GENUS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
STEPS: tuple[Step, ...] = (Gopher(), Repetition(), C4(), FineWeb())


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        peer: an interpreter that has datatrove (default: this one). json: also write the results there.
    """

    peer: str = sys.executable
    json: Path | None = None


def main(options: Options) -> None:
    results: dict[str, Any] = {"languages": languages(), "rules": rules(options)}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def rules(options: Options) -> list[dict[str, Any]]:
    """What both drop, for both ideas of a word."""
    texts = corpus()
    size = sum(len(text.encode()) for text in texts) / 1e6
    batches = list(batches_of(map(Document, texts)))
    peers = {words: peer(texts, words, options) for words in ("words", "whitespace")}
    print(f"\n{len(texts):,} texts, {size:.1f} MB")
    head = f"{'':12}{'MB/s':>8}{'dropped':>9} | {'datatrove, words of':25}"
    print(f"{head}{'MB/s':>10}{'dropped':>9}{'same':>8}{'only ours':>11}{'only theirs':>13}")
    found = []
    for step in STEPS:
        run = step.ready()
        run(batches[0])
        start = time.process_time()
        ours = {drop.row for batch in batches for drop in run(batch).drops}
        seconds = time.process_time() - start
        row: dict[str, Any] = {"step": step.NAME, "MB/s": size / seconds, "dropped": len(ours)}
        print(f"{step.NAME:12}{size / seconds:8.1f}{len(ours):9,}")
        for words, told in peers.items():
            if told is None:
                continue
            theirs = {i for i, reason in enumerate(told[step.NAME]["reasons"]) if reason is not None}
            only = len(ours - theirs), len(theirs - ours)
            same = 1 - sum(only) / len(texts)
            speed = size / told[step.NAME]["seconds"]
            row[words] = {"MB/s": speed, "dropped": len(theirs), "same": same, "only ours": only[0], "only theirs": only[1]}
            name = f"{told['version']}, {'spaCy' if words == 'words' else 'white space'}"
            print(f"{'':29} | {name:<25}{speed:10.2f}{len(theirs):9,}{same:8.3f}{only[0]:11,}{only[1]:13,}")
        found.append(row)
    return found


def peer(texts: list[str], words: str, options: Options) -> dict[str, Any] | None:
    """What datatrove does; None where it is not installed."""
    if subprocess.run([options.peer, "-c", "import datatrove, spacy"], capture_output=True, check=False).returncode:
        print(f"{options.peer} has no datatrove with spaCy: give --peer the Python of an environment that has them")
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        script = Path(__file__).with_name("_datatrove_rules.py")
        done = subprocess.run([options.peer, str(script), str(path), words], capture_output=True, check=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def corpus() -> list[str]:
    """English texts, good and bad."""
    wiki = (SHARED / "wikitext2_valid_test" / "valid.txt").read_text(encoding="utf-8")
    wiki += (SHARED / "wikitext2_valid_test" / "test.txt").read_text(encoding="utf-8")
    wiki = re.sub(r" ([.,;:!?)'])| @([-.,])@ ", r"\1\2", wiki)
    texts = re.split(r"\n(?= = [^=])", wiki)
    texts += sorted({each.read_text("METADATA") or "" for each in distributions()})
    english = [line.partition("\t")[0] for line in lines("libreoffice_help_en_zh/en-zh.tsv.gz")]
    texts += ["\n".join(english[i : i + 20]) for i in range(0, 8000, 20)]
    texts = ["\n".join(line.strip() for line in text.split("\n")).strip() for text in texts]
    return [text for text in texts if 100 < len(text) < 100_000]


def languages() -> list[dict[str, Any]]:
    """How many single sentences and reviews are found to be in the language they are in."""
    help_pages = [line.split("\t")[:2] for line in lines("libreoffice_help_en_zh/en-zh.tsv.gz")]
    sets = {
        "image captions (Multi30k)": ("en", lines("multi30k/train.en.gz")[:10_000]),
        "image captions (Multi30k), German": ("de", lines("multi30k/train.de.gz")[:10_000]),
        "film reviews (SST-2), phrases": (
            "en",
            [
                line.partition("\t")[2]
                for line in (SHARED / "glue_sst2" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:10_001]
            ],
        ),
        "program help (LibreOffice)": ("en", [pair[0] for pair in help_pages]),
        "program help (LibreOffice), Chinese": ("zh", [pair[1] for pair in help_pages]),
        "hotel reviews, Chinese": ("zh", reviews("ChnSentiCorp_htl_all")),
        "food delivery reviews, Chinese": ("zh", reviews("waimai_10k")),
        "Tang poems, traditional Chinese": ("zh-Hant", "\n".join(lines("tang_poetry/shi_tang.txt.gz")).split("\n\n")[:10_000]),
    }
    model, found = load(), []
    print(f"{'':38}{'texts':>8}{'letters':>9}{'right':>8}{'sure':>8}{'of these right':>16}{'texts/s':>10}")
    for name, (language, texts) in sets.items():
        start = time.process_time()
        answers, sure = detect(pa.array(texts, type=pa.large_string()), model)
        seconds = time.process_time() - start
        right = [each == language or each.startswith(language + "-") for each in answers]
        clear = [good for good, confidence in zip(right, sure.tolist()) if confidence >= 0.5]
        length = sorted(map(len, texts))[len(texts) // 2]
        row = {"set": name, "texts": len(texts), "right": sum(right) / len(right), "sure": len(clear) / len(right)}
        row |= {"right of sure": sum(clear) / max(1, len(clear)), "found": Counter(answers).most_common(5)}
        found.append(row)
        shares = "".join(f"{row[key]:{width}.4f}" for key, width in (("right", 8), ("sure", 8), ("right of sure", 16)))
        print(f"{name:38}{len(texts):8,}{length:9}{shares}{len(texts) / seconds:10,.0f}")
    return found


def lines(name: str) -> list[str]:
    with gzip.open(SHARED / name, "rt", encoding="utf-8-sig") as file:
        return file.read().splitlines()


def reviews(name: str) -> list[str]:
    rows = csv.reader(lines(f"chinese_reviews/{name}.csv.gz"))
    return [row[1] for row in rows if len(row) == 2 and row[1].strip()][1:]


if __name__ == "__main__":
    main(tyro.cli(Options))
