"""Bits per byte of every left-to-right recipe at about a million parameters, at equal tokens and at equal seconds.

    python -m benchmarks.quality                              # every corpus, every recipe: hours
    python -m benchmarks.quality --corpora shakespeare --only gpt2 llama lstm --seconds 20 --tokens 300000
    python -m benchmarks.quality --nanogpt first              # the small shape of nanoGPT on tiny-shakespeare: two minutes
    python -m benchmarks.quality --nanogpt second             # its large shape: hours on a CPU
    python -m benchmarks.quality --zaremba                    # the small LSTM of 2014 with its own training

Corpora are read from the folder $GENUS_DATA, or ../shared/data; one that is missing is left out, with a message. Everything runs
through the public pipeline: `genus.prepare`, `genus train`; the figure is that of the run's last evaluation, on rows of the same
held-out text for all recipes.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from genus.prepare.dataset import Dataset
from genus.prepare.pipeline import prepare
from genus.recipes import systems
from genus.run import Run
from genus.train.machine import describe
from genus.train.options import TrainOptions
from genus.train.start import start

DATA = Path(os.environ.get("GENUS_DATA", "../shared/data"))
ORDERS = (3, 5, 8)
NANOGPT = {  # published by nanoGPT's read-me for the same split: steps, rows, validation loss in nats
    "first": {"dim": 128, "depth": 4, "heads": 4, "context": 64, "steps": 2000, "batch": 12, "published": 1.88, "target": 1.80},
    "second": {
        "dim": 384,
        "depth": 6,
        "heads": 6,
        "context": 256,
        "steps": 5000,
        "batch": 64,
        "published": 1.4697,
        "target": 1.47,
    },
}


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        only: recipes; all that generate text if not given. parameters: to aim at.
        tokens, seconds: the two budgets; 0 leaves one out. eval_tokens: held-out tokens that are scored.
        nanogpt, zaremba: run these checks instead. threads: of torch; None = all cores. json: also write the results there.
    """

    corpora: tuple[Literal["shakespeare", "tang", "wikitext"], ...] = ("shakespeare", "tang", "wikitext")
    only: tuple[str, ...] = ()
    parameters: int = 1_000_000
    tokens: int = 2_000_000
    seconds: float = 60.0
    eval_tokens: int = 65536
    nanogpt: Literal["first", "second"] | None = None
    recipe: str = "gpt2"
    """Of --nanogpt."""
    overrides: tuple[str, ...] = ()
    """Of --nanogpt: `lr=0.002`, `optimizer=muon`, or fields of the recipe."""
    zaremba: bool = False
    threads: int | None = None
    json: Path | None = None


# -- corpora ------------------------------------------------------------------------------------------------------------------


def shakespeare(folder: Path) -> Dataset:
    """Characters, the usual split: the last tenth is held out. Genus's character tokenizer adds 256 bytes for unseen ones."""
    text = (DATA / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    return _prepared(folder, text[:cut], text[cut:], tokenizer="chars")


def tang(folder: Path) -> Dataset:
    """Chinese poems, a document each; every twentieth is held out. BPE over bytes."""
    with gzip.open(DATA / "tang_poetry" / "shi_tang.txt.gz", "rt", encoding="utf-8") as f:
        poems = [p for p in f.read().split("\n\n") if p.strip()]
    held = "\n\n".join(poems[::20])
    train = "\n\n".join(p for i, p in enumerate(poems) if i % 20)
    return _prepared(folder, train, held, vocab=2048, split_documents="blank-line")


def wikitext(folder: Path, **options: Any) -> Dataset:
    """WikiText-2: its validation part is trained on, its test part held out (the training part is not at hand)."""
    train, held = ((DATA / "wikitext2_valid_test" / f"{n}.txt").read_text(encoding="utf-8") for n in ("valid", "test"))
    return _prepared(folder, train, held, **(options or {"vocab": 1024}))


CORPORA = {"shakespeare": shakespeare, "tang": tang, "wikitext": wikitext}


def _prepared(folder: Path, train: str, held: str, **options: Any) -> Dataset:
    folder.mkdir(parents=True)
    for name, text in (("train", train), ("held", held)):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return prepare([folder / "train.txt"], folder / "data", validation=[folder / "held.txt"], test=0.0, **options)


# -- the table ----------------------------------------------------------------------------------------------------------------


def measure(name: str, data: Dataset, out: Path, options: TrainOptions) -> dict[str, Any]:
    """Train once; the facts of the finished run, or why it could not be."""
    began = time.perf_counter()
    try:
        run = start(name, data.root, out, options, say=lambda _: None)
    except (ValueError, FloatingPointError) as error:
        return {"error": str(error)}
    return _facts(run, time.perf_counter() - began)


def _facts(run: Run, wall: float) -> dict[str, Any]:
    done = run.config["finished"]
    return {
        "parameters": run.config["parameters"],
        "tokens": done["tokens"],
        "seconds": done["seconds"],
        "wall": wall,
        "loss": done["validation"]["loss"],
        "bits_per_byte": done["validation"]["bpb"],
    }


def rows(corpus: str, data: Dataset, folder: Path, options: Options) -> list[dict[str, Any]]:
    """One record for every recipe and budget."""
    names = options.only or tuple(s.name for s in systems() if s.generates and not s.counted)
    budgets = {"tokens": options.tokens, "seconds": options.seconds}
    result = []
    for order in ORDERS:
        given = TrainOptions(eval_tokens=options.eval_tokens, overrides=(f"order={order}",))
        facts = measure("ngram", data, folder / f"ngram{order}", given)
        result.append({"corpus": corpus, "name": f"{order}-gram", "branch": "counting", "budget": "one pass", **facts})
    branch = {s.name: s.branch for s in systems()}
    for name in names:
        for budget, amount in budgets.items():
            if not amount:
                continue
            given = TrainOptions(
                parameters=options.parameters, eval_tokens=options.eval_tokens, eval_every=1e9, save_every=1e9, **{budget: amount}
            )
            facts = measure(name, data, folder / f"{name}-{budget}", given)
            result.append({"corpus": corpus, "name": name, "branch": branch[name], "budget": budget, **facts})
            print(line(result[-1]), flush=True)
    return result


def line(record: dict[str, Any]) -> str:
    head = f"{record['corpus']:<12}{record['name']:<26}{record['budget']:<10}"
    if "error" in record:
        return f"{head}{record['error'][:90]}"
    return (
        f"{head}{record['parameters']:>12,}{record['tokens']:>12,}{record['seconds']:>8.1f} s"
        f"{record['tokens'] / max(record['seconds'], 1e-9):>11,.0f}/s{record['bits_per_byte']:>9.4f}"
    )


def table(records: list[dict[str, Any]]) -> str:
    """Per corpus: bits per byte at equal tokens and at equal seconds, best first."""
    lines = []
    for corpus in dict.fromkeys(r["corpus"] for r in records):
        mine = [r for r in records if r["corpus"] == corpus and "error" not in r]
        cells: dict[str, dict[str, Any]] = {}
        for r in mine:
            cells.setdefault(r["name"], {})[r["budget"]] = r
        lines += ["", f"{corpus:<26}{'branch':<14}{'parameters':>12}{'equal tokens':>14}{'equal seconds':>15}{'tokens/s':>11}"]

        def best(item: tuple[str, dict[str, Any]]) -> float:
            return min(r["bits_per_byte"] for r in item[1].values())

        for name, found in sorted(cells.items(), key=best):
            one = next(iter(found.values()))
            figures = [f"{found[b]['bits_per_byte']:.4f}" if b in found else "" for b in ("tokens", "seconds")]
            if one["budget"] == "one pass":
                figures = [f"{one['bits_per_byte']:.4f}", ""]
            speed = one["tokens"] / max(one["seconds"], 1e-9)
            lines.append(f"{name:<26}{one['branch']:<14}{one['parameters']:>12,}{figures[0]:>14}{figures[1]:>15}{speed:>11,.0f}")
    return "\n".join(lines)


# -- two published recipes ----------------------------------------------------------------------------------------------------


def nanogpt(folder: Path, options: Options) -> dict[str, Any]:
    """nanoGPT's shape and number of steps on tiny-shakespeare; validation loss over the whole last tenth."""
    shape = NANOGPT[options.nanogpt or "first"]
    data = shakespeare(folder)
    own = dict(o.split("=", 1) for o in options.overrides if o.split("=")[0] in ("lr", "optimizer", "schedule", "dropout"))
    given: dict[str, Any] = {k: float(v) if k in ("lr", "dropout") else v for k, v in own.items()}
    fields = tuple(o for o in options.overrides if o.split("=")[0] not in own)
    train = TrainOptions(
        tokens=int(shape["steps"] * shape["batch"] * shape["context"]),
        batch=int(shape["batch"]),
        context=int(shape["context"]),
        eval_tokens=data.split("validation").tokens,
        eval_every=1e9,
        save_every=1e9,
        overrides=tuple(f"{k}={shape[k]}" for k in ("dim", "depth", "heads")) + fields,
        **{"lr": 4e-3, **given},
    )
    facts = measure(options.recipe, data, folder / "run", train)
    print(f"tiny-shakespeare characters, {options.recipe}, {shape}")
    print(f"vocabulary {data.vocab_size}: the 65 characters, an end mark, 256 bytes for characters never seen")
    if "error" in facts:
        raise SystemExit(facts["error"])
    verdict = "reached" if facts["loss"] <= shape["target"] else "missed"
    print(
        f"validation loss {facts['loss']:.4f} nats ({facts['bits_per_byte']:.4f} bits per byte) after {facts['tokens']:,} "
        f"tokens, {facts['seconds']:.0f} s in all; published {shape['published']}; target {shape['target']} {verdict}"
    )
    return {"check": f"nanogpt {options.nanogpt}", "recipe": options.recipe, **shape, **facts}


def zaremba(folder: Path, options: Options) -> dict[str, Any]:
    """The small LSTM with its published training, for a while, on words (the Penn Treebank is not at hand)."""
    data = wikitext(folder, tokenizer="words", vocab=10_000)
    train = TrainOptions(seconds=options.seconds, eval_tokens=options.eval_tokens, eval_every=1e9, save_every=1e9)
    out = folder / "run"
    facts = measure("zaremba", data, out, train)
    if "error" in facts:
        raise SystemExit(facts["error"])
    training = json.loads((out / "run.json").read_text(encoding="utf-8"))["recipe"]["training"]
    print(f"zaremba (small), {facts['parameters']:,} parameters; training: {json.dumps(training)}")
    print(
        f"word perplexity {math.exp(facts['loss']):.1f} after {facts['tokens'] / data.split('train').tokens:.1f} passes over "
        f"{data.split('train').tokens:,} words (vocabulary {data.vocab_size:,}), {facts['seconds']:.0f} s"
    )
    return {"check": "zaremba", "perplexity": math.exp(facts["loss"]), "training": training, **facts}


def main(options: Options) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{describe()['device']}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.nanogpt or options.zaremba:
            checks = ([nanogpt] if options.nanogpt else []) + ([zaremba] if options.zaremba else [])
            records = [check(folder / check.__name__, options) for check in checks]
        else:
            for corpus in options.corpora:
                make = partial(CORPORA[corpus], folder / corpus)
                try:
                    data = make()
                except FileNotFoundError as error:
                    print(f"{corpus}: left out, {error.filename} is not there; set GENUS_DATA")
                    continue
                records += rows(corpus, data, folder / corpus, options)
            print(table(records))
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "torch": torch.__version__, "results": records}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
