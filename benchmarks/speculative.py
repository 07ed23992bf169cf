"""Speculative decoding: is a model faster with a draft that guesses ahead?

    python -m benchmarks.speculative RUN --drafts SMALLER_RUN NGRAM_RUN --text FILE
    python -m benchmarks.speculative RUN --drafts NGRAM_RUN --text FILE --cpu      # a busy machine: processor time on one thread
    python -m benchmarks.speculative LLAMA --drafts NGRAM_RUN --text FILE --grow 768 12     # at the cost of a larger model

Prompts are stretches of a text that the model was not trained on, one after the other (batch 1), always the likeliest token, so
every draft leads to the same texts. Without a draft and with each, in turns; told are tokens per second, tokens per pass of the
large model, and how many of the proposed tokens were kept. The last lines say what one pass costs that reads more than one token:
a draft pays where it makes more tokens per pass than a pass costs in passes of one token, and itself costs little.

`--grow WIDTH DEPTH` puts the trained LLaMA into a larger one whose further weights are zero: what it says, and how often drafts
agree with it, is the small model's, and what a pass costs is the large one's.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.generate.state import snapshot
from genus.generate.texts import Generator
from genus.run import Loaded, load
from genus.train.machine import describe


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        run: the large model. drafts: models with its tokenizer. text: a file of which prompts are cut. proposed: tokens that a
            draft proposes at a time. prompts, characters: how many, and how long. new: tokens of each text.
        cpu: processor time on one thread instead of wall time. grow: width and depth of the model that the large one is put into.
    """

    run: tyro.conf.Positional[Path]
    drafts: tuple[Path, ...]
    text: Path
    proposed: tuple[int, ...] = (2, 4, 8)
    prompts: int = 6
    characters: int = 200
    new: int = 96
    rounds: int = 3
    weights: Literal["fp32", "bf16", "int8", "int4"] = "bf16"
    dtype: Literal["fp32", "bf16"] = "bf16"
    cpu: bool = False
    grow: tuple[int, int] | None = None


def grown(loaded: Loaded, width: int, depth: int) -> Loaded:
    """A LLaMA of another size that computes the same: zeros beside its numbers, and layers that add nothing."""
    spec: Any = loaded.spec
    share, block = spec.dim / width, spec.stack.blocks[0]  # the mean of squares is over more numbers
    attention, mlp = block.parts
    parts = attention.replace(heads=width // attention.sizes(spec.dim)[0]), mlp.replace(hidden=mlp.hidden * width // spec.dim)
    block = block.replace(parts=parts, norm=block.norm.replace(eps=share * block.norm.eps))
    final = spec.stack.final.replace(eps=share * spec.stack.final.eps)
    large = spec.replace(dim=width, stack=spec.stack.replace(blocks=(block,), depth=depth, final=final))
    model, own = large.build().eval(), loaded.model.state_dict()
    for name, tensor in model.state_dict().items():
        tensor.zero_()
        if name in own:
            tensor[tuple(map(slice, own[name].shape))] = own[name] * (share**0.5 if own[name].dim() == 1 else 1.0)
    return replace(loaded, model=model, spec=large)


def passes(engine: Engine, clock: Callable[[], float], counts: tuple[int, ...]) -> dict[int, float]:
    """Seconds of a pass that reads so many tokens of one row, and is taken back; the median of 30."""
    found = {}
    state = engine.blank(1, 64)
    engine.read([[1] * 16], state)
    held = snapshot(state)
    for count in counts:
        times = []
        for _ in range(40):
            begin = clock()
            engine.read([[1] * count], state, every=True)
            times.append(clock() - begin)
            engine.rewind(state, held, [[]])
        found[count] = statistics.median(times[10:])
    return found


def main(options: Options) -> None:
    if options.cpu:
        torch.set_num_threads(1)
    clock = time.process_time if options.cpu else time.perf_counter
    print({**describe(), "weights": options.weights, "dtype": options.dtype, "cpu": options.cpu})
    text = options.text.read_text(encoding="utf-8")
    step = len(text) // options.prompts
    prompts = [text[i * step : i * step + options.characters] for i in range(options.prompts)]
    large = load(options.run) if options.grow is None else grown(load(options.run), *options.grow)
    print(f"{options.run.name}: {sum(p.numel() for p in large.model.parameters()):,} parameters")
    shared: dict[str, Any] = {"max_tokens": options.new, "sampling": Sampling(0.0), "batch": 1}
    shared |= {"dtype": options.dtype, "weights": options.weights}
    ways: dict[tuple[str, int], Generator] = {("none", 0): Generator(large, **shared)}
    for draft in options.drafts:
        loaded = load(draft)
        for count in options.proposed:
            ways[draft.name, count] = Generator(large, draft=loaded, draft_tokens=count, **shared)
    best: dict[tuple[str, int], float] = defaultdict(lambda: float("inf"))
    told: dict[tuple[str, int], tuple[int, int, int]] = {}
    texts: dict[tuple[str, int], list[str]] = {}
    for _ in range(options.rounds):
        for way, generator in ways.items():
            begin = clock()
            found = generator(prompts)
            best[way] = min(best[way], clock() - begin)
            told[way] = sum(len(each.ids) for each in found), *generator.guessed
            texts[way] = [each.text for each in found]
    print(f"{'draft':<16}{'proposed at a time':>19}{'tokens/s':>10}{'tokens per pass':>17}{'kept':>7}{'same texts':>12}")
    for way, (tokens, proposed, kept) in told.items():
        same = sum(a == b for a, b in zip(texts[way], texts["none", 0], strict=True))
        line = f"{way[0]:<16}{way[1] or '':>19}{tokens / best[way]:>10.1f}{tokens / (tokens - kept):>17.2f}"
        print(f"{line}{f'{kept / proposed:.0%}' if proposed else '':>7}{f'{same}/{len(prompts)}':>12}", flush=True)
    with torch.inference_mode(), ways["none", 0].engine() as engine:
        costs = passes(engine, clock, (1, *(n + 1 for n in options.proposed)))
    print("a pass that reads " + ", ".join(f"{n} tokens: {1e3 * s:.2f} ms ({s / costs[1]:.2f})" for n, s in costs.items()))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
