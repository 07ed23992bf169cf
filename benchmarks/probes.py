"""Recall against bytes of state: small models of several recipes on multi-query associative recall, at equal updates.

    python -m benchmarks.probes                                       # 400 updates each: some minutes on one core
    python -m benchmarks.probes --recipes llama rnn --updates 2000 --json recall.json
    python -m benchmarks.probes --probe addition-reversed             # another probe that trains

Every recipe gets the same rows in the same order, so the seed alone decides the result. What Zoology (Arora et al. 2023)
publishes: attention recalls every pair; a state of a constant size falls off as the pairs outgrow it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from genus.evaluate.probes import ProbeResult, probe_score
from genus.evaluate.probes.recall import PAIRS, Recall
from genus.evaluate.probes.small import HEADS, small
from genus.ops.memory import keep_freed_memory
from genus.recipes import make
from genus.recipes.recipe import Recipe
from genus.train.machine import describe


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        recipes: names, also with a width, such as llama:16. probe: one that trains. updates: of each.
        threads: of torch. json: also write the results there.
    """

    recipes: tuple[str, ...] = ("llama", "llama:16", "deltanet", "deltanet:16", "linear-transformer", "lstm", "ngram")
    probe: str = "recall"
    updates: int = 400
    seed: int = 0
    threads: int = 1
    json: Path | None = None


def main(options: Options) -> None:
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print(f"{describe()['device']}, {options.threads} thread(s), torch {torch.__version__}; {options.updates:,} updates each")
    results = {}
    for name in options.recipes:
        begin = time.process_time()
        result = probe_score(chosen(name), options.probe, seconds=60.0, seed=options.seed, updates=options.updates)
        results[name] = result
        print(line(name, result, time.process_time() - begin), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({name: result.to_json() for name, result in results.items()}, indent=1) + "\n")


def line(name: str, result: ProbeResult, seconds: float) -> str:
    """Scores by level, the bytes of the state, when it was learnt."""
    levels = result.curves[-1]
    along = next((c for c in result.curves if c.along == "updates"), None)
    scores = "  ".join(f"{x:g}: {score:.2f}" for x, score in zip(levels.x, levels.score, strict=True))
    text = f"{name:<20} {scores}   loss {result.loss:.3f}   {seconds:.0f} s of one core"
    if along is not None:
        half = next((x for x, score in zip(along.x, along.score, strict=True) if score >= 0.5), None)
        text += f"   half right after {half:,.0f} updates" if half else "   never half right"
        text += f"   {along.verdict.verdict}"
    sizes = [f"{value:,.0f} {figure}" for figure, value in result.figures.items() if figure.startswith("bytes")]
    return "   ".join([text, *sizes])


def chosen(name: str) -> str | Recipe:
    """`llama`, or `llama:16` = 16 wide."""
    name, _, width = name.partition(":")
    if not width:
        return name
    recipe = small(name, Recall.vocab, 4 * max(PAIRS))
    return make(name, dim=int(width), depth=recipe.model.stack.depth, heads=HEADS, vocab=Recall.vocab, context=4 * max(PAIRS))


if __name__ == "__main__":
    main(tyro.cli(Options))
