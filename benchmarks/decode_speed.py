"""Decoding speed beside other libraries: tokens per second at batch 1, 8 and 32, and the time to a long prompt's first token.

    python -m benchmarks.decode_speed                          # GPT-2 (124M) and a LLaMA of the same size, random weights
                                                               # (on a GPU, where there is one: with CUDA graphs and without)
    python -m benchmarks.decode_speed --shapes llama --peers llama-cpp-python --rounds 9
    python -m benchmarks.decode_speed --cpu                    # a busy machine: one thread, processor time instead of the clock
    python -m benchmarks.decode_speed --quality                # what int8 and int4 cost trained models
    python -m benchmarks.decode_speed --products               # the matrix products alone, every path

All have the same weights, and take turns (A B C A B C ...) in one process; a window counts only while other processes used under
10 % of the processors. A text of one new token gives the time to the first token; what further tokens cost is the difference to a
longer text. Each figure is the best of the rounds. The bandwidth is that of reading weights at batch 1, as a fraction of the
speed at which torch sums a large vector.
"""

from __future__ import annotations

import json
import math
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from benchmarks._decoders import PEERS, SHAPES, Decoder, contestants
from benchmarks._quiet import quiet

from genus.evaluate.scoring import Scorer
from genus.generate.weights import WEIGHTS, describe_paths, ready
from genus.ops.linear import linear
from genus.ops.memory import Arena, keep_freed_memory
from genus.ops.native import reason
from genus.ops.packed import Int8Rows, Packed, TorchInt4, pack
from genus.ops.rounding import to_int8
from genus.ops.tape import Recorder, Unrecordable
from genus.prepare.dataset import Dataset
from genus.prepare.pipeline import prepare
from genus.run import load
from genus.train.machine import default_device, describe
from genus.train.options import TrainOptions
from genus.train.start import start

DATA = Path(os.environ.get("GENUS_DATA", "../shared/data"))
STEPS = {1: 48, 8: 32, 32: 16}  # further tokens of a window, by batch
ON_GPU = (1, 64)  # batches there
MORE = 448  # further tokens of a window there
PROMPT, LONG = 16, 512
HELD = 16384  # held-out tokens that are scored, about
ALLOWED = {"int8": 0.005, "int4": 0.03}  # perplexity above that of bf16


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        batches: None = 1, 8 and 32; on a GPU 1 and 64. peers: those that are asked for and run there; on a GPU transformers.
        dtype: precision of Genus's activations. rounds: turns of every contestant. retries: of a noisy window.
        threads: of everybody; None = all cores. cpu: processor time on one thread instead of wall time.
        quality, products: measure these instead. tokens, models: what --quality trains; or runs
            that are there, and the prepared data whose validation part they are tried on. json: also write the results there.
    """

    shapes: tuple[Literal["gpt2", "llama", "tiny"], ...] = ("gpt2", "llama")
    peers: tuple[Literal["transformers", "llama-cpp-python", "ctranslate2"], ...] = tuple(PEERS)  # type: ignore[arg-type]
    batches: tuple[int, ...] | None = None
    dtype: tuple[Literal["bf16", "fp32"], ...] = ("bf16",)
    rounds: int = 5
    retries: int = 4
    threads: int | None = None
    cpu: bool = False
    quality: bool = False
    products: bool = False
    tokens: int = 1_000_000
    models: tuple[str, ...] = ("llama", "gpt2", "lstm", "deltanet")
    runs: tuple[Path, ...] = ()
    data: Path | None = None
    json: Path | None = None


TURNS = 5  # of every way to store a matrix in a round


@dataclass
class Watch:
    """Times work: by the clock, in quiet windows; or by the processor."""

    cpu: bool
    retries: int
    noisy: int = 0

    def __call__(self, work: Callable[[], object]) -> float:
        if self.cpu:
            start = time.process_time()
            work()
            return time.process_time() - start
        window = quiet(work, self.retries, pause=2.0)
        self.noisy += not window.quiet
        return window.seconds


def bandwidth(watch: Watch, device: torch.device) -> float:
    """Bytes per second at which a vector of 512 MB, on a GPU of 4 GB, is summed; the best of eight."""
    x = torch.ones((1024 if device.type == "cuda" else 128) * 2**20, device=device)
    return x.nbytes / min(watch(lambda: x.sum().item()) for _ in range(8))


def steps(batch: int, device: torch.device) -> int:
    """Further tokens of a window."""
    return MORE if device.type == "cuda" else STEPS.get(batch, 16)


def _prompts(rows: int, length: int, vocab: int) -> list[list[int]]:
    draw = random.Random(rows)
    return [[draw.randrange(1, vocab - 1) for _ in range(length)] for _ in range(rows)]


def _run(decoder: Decoder, prompts: list[list[int]], new: int) -> None:
    made = decoder.run(prompts, new)
    if made != new * len(prompts):
        raise RuntimeError(f"{decoder.name} made {made} tokens instead of {new * len(prompts)}")


def compare(name: str, options: Options, batches: Sequence[int], threads: int, device: torch.device) -> dict[str, Any]:
    """Let everybody take turns: seconds of the best round for every contestant, batch and length."""
    shape, peers = SHAPES[name], [p for p in options.peers if device.type == "cpu" or p == "transformers"]
    watch = Watch(options.cpu, options.retries)
    with tempfile.TemporaryDirectory() as folder:
        field = contestants(shape, Path(folder), options.dtype, peers, threads, device)
        work = [
            (batch, _prompts(batch, PROMPT, shape.vocab), 1 + more) for batch in batches for more in (0, steps(batch, device))
        ]
        work.append((0, _prompts(1, LONG, shape.vocab), 1))
        best: dict[tuple[str, int, int], float] = defaultdict(lambda: math.inf)
        for prompts, new in [(p, n) for _, p, n in work]:
            for decoder in field:
                _run(decoder, prompts, new)  # warm up
        for _ in range(options.rounds):
            for batch, prompts, new in work:
                for decoder in field:
                    seconds = watch(lambda d=decoder, p=prompts, n=new: _run(d, p, n))  # type: ignore[misc]
                    best[decoder.name, batch, new] = min(best[decoder.name, batch, new], seconds)
    rows = []
    for decoder in field:
        speeds = {}
        for batch in batches:
            more = best[decoder.name, batch, 1 + steps(batch, device)] - best[decoder.name, batch, 1]
            speeds[batch] = batch * steps(batch, device) / more
        first = best[decoder.name, 0, 1]
        rows.append({"name": decoder.name, "bits": decoder.bits, "bytes": decoder.bytes, "tokens_per_s": speeds, "first": first})
    windows = options.rounds * len(work) * len(field)
    return {"shape": name, "rows": rows, "noisy": watch.noisy / windows, "bandwidth": bandwidth(watch, device)}


def show(record: dict[str, Any], batches: Sequence[int]) -> None:
    s = SHAPES[record["shape"]]
    print(
        f"\n{record['shape']}: {s.depth} layers, {s.dim} wide, vocabulary {s.vocab}; memory "
        f"{record['bandwidth'] / 1e9:.1f} GB/s; {record['noisy']:.0%} of the windows were noisy"
    )
    heads = "".join(f"{f'batch {b}':>10}{'':>9}" for b in batches)
    print(f"{'tokens/s (of best peer at equal bits)':<38}{'MB read':>8}{heads}{'bandwidth':>10}{f'first of {LONG}':>14}")
    for r in record["rows"]:
        cells = ""
        for b in batches:
            peers = [p["tokens_per_s"][b] for p in record["rows"] if p["bits"] == r["bits"] and not p["name"].startswith("genus")]
            share = f"({r['tokens_per_s'][b] / max(peers):.2f}x)" if peers and r["name"].startswith("genus") else ""
            cells += f"{r['tokens_per_s'][b]:>10.1f}{share:>9}"
        used = r["bytes"] * r["tokens_per_s"][1] / record["bandwidth"] if 1 in batches else math.nan
        print(f"{r['name']:<38}{r['bytes'] / 1e6:>8.0f}{cells}{used:>10.0%}{1e3 * r['first']:>11.0f} ms", flush=True)


# -- the products alone -------------------------------------------------------------------------------------------------------


def products(options: Options) -> list[dict[str, Any]]:
    """Every way to store a matrix of 3072 x 768: gigabytes of weights per second, of so many of them that no cache holds them.

    They lie in memory and are called as in decoding: in large pages, one recorded call after the other. The memory is read in
    turns with them, as often as each of them, because how fast it is changes with what other machines do.
    """
    watch, clock = Watch(options.cpu, options.retries), time.process_time if options.cpu else time.perf_counter
    outputs, inputs, copies = 3072, 768, 48
    arena, plain = Arena(), torch.randn(outputs, inputs).bfloat16()
    ways: dict[str, tuple[list[Any], int]] = {"bf16, torch": ([arena.copy(plain) for _ in range(copies)], plain.nbytes)}
    stored: dict[str, Callable[[torch.Tensor], Any]] = {
        "bf16, here": lambda w: pack(w, "bf16"),
        "int8, here": lambda w: pack(w, "int8"),
        "int8, torch": lambda w: Int8Rows(w.shape, "int8", *to_int8(w)),
        "int4, here": lambda w: pack(w, "int4"),
        "int4, torch": lambda w: TorchInt4.pack(w, 32),
    }
    for name, make in stored.items():
        one = make(plain)
        if isinstance(one, Packed):
            ways[name] = [replace(one, codes=arena.copy(one.codes)) for _ in range(copies)], one.bytes
    rows_of = (1, 2, 4, 8, 16, 32, 128)
    best: dict[tuple[str, int], float] = defaultdict(lambda: math.inf)
    vector = torch.ones(128 * 2**20)
    with torch.inference_mode():
        for rows in rows_of:
            x = torch.randn(rows, inputs).bfloat16()
            count = max(4, copies // rows)
            works: dict[str, tuple[Callable[[], object], int]] = {"memory": (vector.sum, 1)}
            for name, (weights, _) in ways.items():
                work = _called(lambda w=weights[:count], x=x: [linear(x, each) for each in w][-1])  # type: ignore[misc]
                work()
                works[name] = work, count

            def turn(works: dict[str, tuple[Callable[[], object], int]] = works, rows: int = rows) -> None:
                for name, (work, calls) in works.items():
                    start = clock()
                    work()
                    best[name, rows] = min(best[name, rows], (clock() - start) / calls)

            for _ in range(options.rounds):
                watch(lambda turn=turn: [turn() for _ in range(TURNS)])  # type: ignore[misc]
    memory = {rows: vector.nbytes / best["memory", rows] for rows in rows_of}
    print("\nof weights GB/s, the share of that at which memory is read, and GFLOP/s, by rows")
    print(f"{'':<14}" + "".join(f"{rows:>16}" for rows in rows_of))
    print(f"{'memory':<14}" + "".join(f"{memory[rows] / 1e9:>16.1f}" for rows in rows_of))
    records = []
    for name, (weights, size) in ways.items():
        path = linear.chosen(torch.empty(1, inputs, dtype=torch.bfloat16), weights[0])
        speeds = [size / best[name, r] for r in rows_of]
        work_of = [2 * r * outputs * inputs / best[name, r] / 1e9 for r in rows_of]
        cells = [f"{s / 1e9:.1f} {s / memory[r]:.0%} {w:.0f}" for r, s, w in zip(rows_of, speeds, work_of, strict=True)]
        print(f"{name:<14}" + "".join(f"{c:>16}" for c in cells) + f"  {path}")
        records.append({"name": name, "path": path, "memory": memory, "seconds": {r: best[name, r] for r in rows_of}})
    return records


def _called(work: Callable[[], torch.Tensor]) -> Callable[[], object]:
    """`work` as decoding runs it: recorded, where that can be."""
    recorder = Recorder()
    try:
        recorder.record(work)
    except Unrecordable:
        return work
    return recorder.tape.replay


# -- what it costs in quality ---------------------------------------------------------------------------------------------------


def quality(options: Options) -> list[dict[str, Any]]:
    """Perplexity of held-out text in every format, of runs that are there, or of models trained for a minute or two each."""
    with tempfile.TemporaryDirectory() as temporary:
        if options.runs and options.data:
            return [_formats(run, Dataset.open(options.data)) for run in options.runs]
        folder = Path(temporary)
        data = _shakespeare(folder)
        for recipe in options.models:
            given = TrainOptions(tokens=options.tokens, parameters=1_500_000, eval_every=1e9, save_every=1e9)
            start(recipe, data.root, folder / recipe, given, say=lambda _: None)
        return [_formats(folder / recipe, data) for recipe in options.models]


def _shakespeare(folder: Path) -> Dataset:
    """tiny-shakespeare, the usual split: the last tenth is held out."""
    text = (DATA / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    for name, part in (("train", text[:cut]), ("held", text[cut:])):
        (folder / f"{name}.txt").write_text(part, encoding="utf-8")
    return prepare([folder / "train.txt"], folder / "data", validation=[folder / "held.txt"], test=0.0, vocab=1024)


def _formats(run: Path, data: Dataset) -> dict[str, Any]:
    loaded = load(run)
    model = loaded.model.eval()
    found = {weights: _perplexity(ready(model, weights), data) for weights in WEIGHTS}
    said = [f"{run.name:<14}{loaded.spec.parameters(0):>11,}", *(f"{w} {p:.4f}" for w, p in found.items())]
    for weights, most in ALLOWED.items():
        more = found[weights] / found["bf16"] - 1
        said.append(f"{weights} {more:+.2%} ({'within' if more <= most else 'above'} {most:.1%})")
    print("  ".join(said), flush=True)
    return {"run": run.name, "perplexity": found}


def _perplexity(model: Any, data: Dataset) -> float:
    """Of the first tokens of the validation part, with bf16 activations."""
    split = data.split("validation")
    documents = [split.read(a, b) for a, b in pairwise([0, *split.ends.tolist()]) if a < HELD]
    scores = list(Scorer(model, model.spec, data.tokenizer.bos_id, 256, 128, torch.bfloat16)([d[:HELD] for d in documents]))
    return math.exp(-sum(float(s.sum()) for s in scores) / sum(map(len, scores)))


def main(options: Options) -> None:
    keep_freed_memory()
    device = default_device()
    if options.cpu and device.type != "cpu":
        raise ValueError("--cpu counts the processor's time, and this would run on the GPU; hide it: CUDA_VISIBLE_DEVICES=")
    batches = options.batches or (tuple(STEPS) if device.type == "cpu" else ON_GPU)
    threads = 1 if options.cpu else options.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    print(f"{describe()['device']}, {threads} threads, torch {torch.__version__}" + (", processor time" if options.cpu else ""))
    if reason("linear"):
        print(f"no kernels in C: {reason('linear')}")
    if options.quality:
        records: list[Any] = quality(options)
    elif options.products:
        records = products(options)
    else:
        records = []
        for name in options.shapes:
            for weights in WEIGHTS[1:] if device.type == "cpu" else ():
                module = ready(SHAPES[name].spec().build(0).eval(), weights)
                print(f"\n{name}, {weights}\n" + "\n".join(map(str, describe_paths(module))))
            records.append(compare(name, options, batches, threads, device))
            show(records[-1], batches)
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "torch": torch.__version__, "results": records}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
