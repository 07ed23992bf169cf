"""Training speed beside other libraries, at the same shapes and the same precision (float32 weights, bfloat16 compute).

    python -m benchmarks.train_speed                    # two shapes, both families, every peer eager and compiled
    python -m benchmarks.train_speed --shapes small --kinds llama --no-compiled
    python -m benchmarks.train_speed --shapes mini small large base --kinds llama --no-compiled --rounds 2    # all four
    python -m benchmarks.train_speed --profile          # where one step of Genus goes

Where torch sees a GPU everything runs there, by default at 124M and 350M parameters and a context of 1024. Nobody has yet run it
on one.

Every contestant runs whole updates: forward, cross-entropy, backward, clipping, AdamW. Genus runs the update of its own trainer.
They take turns (A B C A B C ...) in one process; a window counts only while other processes used under 10 % of the processors.
The ceiling is the speed of a square bfloat16 matrix product, measured in every round. "Memory" is what a contestant alone in a
process takes at most, beyond the libraries; of a GPU's memory, what torch has held of it.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from benchmarks._peers import PEERS, Shape, Step, training_step
from benchmarks._quiet import quiet

from genus.ops import dispatch
from genus.ops.memory import keep_freed_memory
from genus.recipes import make
from genus.recipes.recipe import Recipe
from genus.run import Run
from genus.train.loader import Windows
from genus.train.machine import default_device, describe, matmul_ceiling
from genus.train.telemetry import Telemetry
from genus.train.trainer import Budget, Plan, Trainer

SHAPES = {
    "small": Shape(depth=6, dim=384, heads=6, context=256, vocab=65, batch=64, hidden=1024),
    "large": Shape(depth=8, dim=512, heads=8, context=512, vocab=16384, batch=8, hidden=1408),
    "mini": Shape(depth=4, dim=128, heads=4, context=64, vocab=65, batch=12, hidden=344),
    "base": Shape(depth=12, dim=768, heads=12, context=1024, vocab=50304, batch=2, hidden=2048),
    "124m": Shape(depth=12, dim=768, heads=12, context=1024, vocab=50304, batch=32, hidden=2048),  # of a GPU
    "350m": Shape(depth=24, dim=1024, heads=16, context=1024, vocab=50304, batch=16, hidden=2816),
    "tiny": Shape(depth=2, dim=64, heads=4, context=64, vocab=65, batch=4, hidden=192),  # to try the script itself
}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        shapes: None = small and large, or on a GPU 124m and 350m. rounds: turns of every contestant.
        seconds: shortest window. retries: how often a noisy window is tried again.
        compiled: also run everybody under torch.compile. threads: of torch; None = all cores.
        json: also write the results there. profile: time the parts of one update of Genus instead.
    """

    shapes: tuple[Literal["small", "large", "mini", "base", "124m", "350m", "tiny"], ...] | None = None
    kinds: tuple[Literal["gpt2", "llama"], ...] = ("gpt2", "llama")
    rounds: int = 3
    seconds: float = 6.0
    retries: int = 4
    compiled: bool = True
    threads: int | None = None
    json: Path | None = None
    profile: bool = False


class RandomTokens:
    """A split of one document of random tokens."""

    def __init__(self, vocab: int, tokens: int) -> None:
        self.data = np.random.default_rng(0).integers(0, vocab, tokens)
        self.tokens = tokens
        self.ends = np.array([tokens])

    def read(self, start: int, stop: int) -> Any:
        return self.data[start:stop]


def genus_recipe(kind: str, s: Shape) -> Recipe:
    sizes = {"dim": s.dim, "depth": s.depth, "heads": s.heads, "vocab": s.vocab, "context": s.context}
    recipe = make(kind, **sizes, **({"hidden": s.hidden} if kind == "llama" else {}))
    return recipe.replace(training=recipe.training.replace(batch=s.batch, context=s.context))


def genus_trainer(kind: str, s: Shape, compiled: bool, folder: Path) -> Trainer:
    """Genus's own trainer on random tokens."""
    recipe = genus_recipe(kind, s)
    torch.manual_seed(0)
    model = recipe.model.build(0).to(default_device())
    run = Run.create(folder / f"{kind}{compiled}{s.dim}", {})
    data = Windows(RandomTokens(s.vocab, 64 * s.tokens), s.context, s.batch, 0)
    plan = Plan(3e-4, Budget(steps=10**6), s.batch, torch.bfloat16, compile=compiled)
    telemetry = Telemetry(run, 1.0, 1.0, 1.0, quiet=True)
    return Trainer(recipe, model, data, None, run, plan, telemetry, lambda loss: loss)


@dataclass
class Contestant:
    """One way to train, and the tokens per second of its windows."""

    name: str
    step: Step
    parameters: int
    steps: int = 1
    speeds: list[float] = field(default_factory=list)
    noisy: int = 0

    def warm_up(self, seconds: float) -> None:
        """Compile, allocate, and find how many steps fill a window."""
        self.run(2)  # the optimiser's state is in place from the second on
        start = time.perf_counter()
        self.run(1)
        self.steps = max(1, round(seconds / (time.perf_counter() - start)))

    def run(self, steps: int) -> None:
        """So many updates, to the end of the last."""
        for _ in range(steps):
            self.step()
        if default_device().type == "cuda":
            torch.cuda.synchronize()

    def measure(self, tokens: int, retries: int) -> None:
        window = quiet(lambda: self.run(self.steps), retries)
        self.speeds.append(self.steps * tokens / window.seconds)
        self.noisy += not window.quiet


def builders(kind: str, s: Shape, compiled: bool, folder: Path) -> dict[str, Callable[[], Contestant]]:
    """How to make every contestant, Genus first."""
    label = ", compiled" if compiled else ""

    def ours(name: str) -> Contestant:
        trainer = genus_trainer(kind, s, compiled, folder)
        return Contestant(name, trainer.launch, _size(trainer.model))

    def theirs(name: str, build: Callable[[Shape], torch.nn.Module]) -> Contestant:
        torch.manual_seed(0)
        model = build(s)
        return Contestant(name, training_step(model, s, compiled, default_device()), _size(model))

    found = {f"genus {kind}{label}": ours} | {name + label: partial(theirs, build=b) for name, b in PEERS[kind].items()}
    return {name: partial(make_, name) for name, make_ in found.items()}


def _size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _everybody(kind: str, s: Shape, options: Options, folder: Path) -> dict[str, Callable[[], Contestant]]:
    return builders(kind, s, False, folder) | (builders(kind, s, True, folder) if options.compiled else {})


def memory(kind: str, s: Shape, options: Options, folder: Path, name: str) -> int:
    """Bytes that a contestant and three of its updates take at most, beyond what the libraries take."""
    keep_freed_memory()
    build, before = _everybody(kind, s, options, folder / "alone")[name], _status("VmRSS")
    build().run(3)
    return torch.cuda.max_memory_allocated() if default_device().type == "cuda" else _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def compare(kind: str, s: Shape, options: Options, folder: Path) -> dict[str, Any]:
    """Let everybody take turns; one record per contestant, the best peer, and the ratio to it."""
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    field_ = [build() for build in _everybody(kind, s, options, folder).values()]
    for c in field_:
        c.warm_up(options.seconds)
    ceilings = []
    for _ in range(options.rounds):
        ceilings.append(matmul_ceiling(torch.bfloat16, default_device(), seconds=1.0))
        for c in field_:
            c.measure(s.tokens, options.retries)
    ceiling = max(ceilings)
    operations = 3 * genus_recipe(kind, s).model.flops(0, s.context)
    rows = [
        {
            "name": c.name,
            "parameters": c.parameters,
            "tokens_per_s": statistics.median(c.speeds),
            "spread": (max(c.speeds) - min(c.speeds)) / statistics.median(c.speeds),
            "ceiling_share": statistics.median(c.speeds) * operations / ceiling,
            "noisy_windows": c.noisy,
        }
        for c in field_
    ]
    ours = max(r["tokens_per_s"] for r in rows if r["name"].startswith("genus"))
    best = max((r for r in rows if not r["name"].startswith("genus")), key=lambda r: r["tokens_per_s"])
    record = {"kind": kind, "shape": vars(s), "ceiling_tflops": ceiling / 1e12, "rows": rows, "best_peer": best["name"]}
    return {**record, "ratio": ours / best["tokens_per_s"]}


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own: freed memory is kept, so the next comparison would have to live beside this one's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def show(record: dict[str, Any], rounds: int) -> None:
    s = record["shape"]
    print(
        f"\n{record['kind']}: {s['depth']} layers, {s['dim']} wide, context {s['context']}, vocabulary {s['vocab']}, "
        f"batch {s['batch']}; ceiling {record['ceiling_tflops']:.3f} TFLOP/s bf16"
    )
    columns = f"{'parameters':>12}{'memory':>10}{'tokens/s':>10}{'spread':>8}{'of ceiling':>12}{'of best peer':>14}"
    print(f"{'':<32}{columns}")
    best = max(r["tokens_per_s"] for r in record["rows"] if r["name"] == record["best_peer"])
    for r in sorted(record["rows"], key=lambda r: -r["tokens_per_s"]):
        noisy = f"  noisy {r['noisy_windows']}/{rounds}" if r["noisy_windows"] else ""
        print(
            f"{r['name']:<32}{r['parameters']:>12,}{r['memory'] / 2**30:>6.2f} GiB{r['tokens_per_s']:>10,.0f}{r['spread']:>8.0%}"
            f"{r['ceiling_share']:>12.0%}"
            f"{r['tokens_per_s'] / best:>13.2f}x{noisy}"
        )


# -- where one update goes --------------------------------------------------------------------------------------------------


def profile(kind: str, s: Shape, folder: Path) -> dict[str, tuple[float, float]]:
    """The parts of one update, see `profile_update`; of each the least of a few, since others may disturb one."""
    return profile_update(genus_trainer(kind, s, False, folder), 5)


def profile_update(trainer: Trainer, updates: int = 1) -> dict[str, tuple[float, float]]:
    """Milliseconds of one update, forward and backward, by operation of Genus; the rest by the name of the torch operation.

    Of several updates the least of every part.
    """
    if trainer.device.type != "cpu":
        raise ValueError("--profile times the processor, which only asks a GPU for its work; use torch.profiler there")
    for _ in range(3):  # memory and the optimiser's state are in place from the third on
        trainer.update()
    call = dispatch.Op.__call__

    def named(op: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function(f"op:{op.name}"):
            return call(op, *args, **kwargs)

    found = []
    dispatch.Op.__call__ = named  # type: ignore[method-assign]
    try:
        for _ in range(updates):
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
                trainer.update()
            found.append(_by_operation(trace.events()))
    finally:
        dispatch.Op.__call__ = call  # type: ignore[method-assign]
    parts = set.intersection(*map(set, found))
    return {name: (min(f[name][0] for f in found), min(f[name][1] for f in found)) for name in parts}


def _by_operation(events: Any) -> dict[str, tuple[float, float]]:
    """A backward event belongs to the operation whose forward event has the same sequence number."""
    forward: dict[int, str] = {}
    places = {}
    for e in events:
        chain = []
        node = e
        while node is not None:
            chain.append(node)
            node = node.cpu_parent
        label = next((n.name[3:] for n in reversed(chain) if n.name.startswith("op:")), None)
        engine = next((n for n in chain if n.name.startswith("autograd::engine")), None)
        places[e.id] = (label, engine)
        if engine is None and e.sequence_nr >= 0:
            forward[e.sequence_nr] = label or e.name
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for e in events:
        label, engine = places[e.id]
        if engine is not None:
            totals[forward.get(engine.sequence_nr, engine.name.split("evaluate_function: ")[-1])][1] += e.self_cpu_time_total
        else:
            totals[label or e.name][0] += e.self_cpu_time_total
    return {k: (f / 1e3, b / 1e3) for k, (f, b) in totals.items()}


def show_profile(kind: str, s: Shape, parts: dict[str, tuple[float, float]]) -> None:
    show_parts(f"{kind}, {s.depth} layers, {s.dim} wide, context {s.context}", parts)


def show_parts(title: str, parts: dict[str, tuple[float, float]]) -> None:
    """The table of a profile; what takes under half a percent is left out."""
    whole = sum(f + b for f, b in parts.values())
    print(f"\n{title}: {whole:,.0f} ms")
    print(f"{'':<44}{'forward ms':>12}{'backward ms':>12}{'share':>8}")
    for name, (f, b) in sorted(parts.items(), key=lambda item: -sum(item[1])):
        if f + b > whole / 200:
            print(f"{name[:43]:<44}{f:>12.1f}{b:>12.1f}{(f + b) / whole:>8.1%}")


def main(options: Options) -> None:
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = describe()
    print(
        f"{machine['device']}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    )
    shapes = options.shapes or (("small", "large") if default_device().type == "cpu" else ("124m", "350m"))
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for name in shapes:
            for kind in options.kinds:
                if options.profile:
                    show_profile(kind, SHAPES[name], profile(kind, SHAPES[name], Path(folder)))
                    continue
                given = kind, SHAPES[name], options, Path(folder)
                records.append(_alone(compare, *given))
                for row in records[-1]["rows"]:
                    row["memory"] = _alone(memory, *given, row["name"])
                show(records[-1], options.rounds)
    if options.json and records:
        options.json.write_text(json.dumps({"machine": machine, "torch": torch.__version__, "results": records}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
