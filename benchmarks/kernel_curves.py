"""Loss curves with the kernels in C and without them: do they differ by less than two seeds do?

    python -m benchmarks.kernel_curves                  # gpt2 and llama, 200 updates, a few minutes
    python -m benchmarks.kernel_curves --kinds llama --dim 256 --depth 6
    python -m benchmarks.kernel_curves --kinds mistral bloom gemma2 deltanet    # a window, a bias, capped scores, fast weights

Every recipe learns the bytes of this repository's documentation four times, in bf16 over float32 weights, by Genus's own trainer:
with two seeds (of the weights and of the order of the rows), each with the kernels and with the paths in torch. Curves are means
over 20 updates. The exit status is 1 where, from the second such mean on, a curve with the kernels is farther from the one
without them than the seeds are from each other, at the worst point and on average.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from genus.ops.dispatch import forced
from genus.ops.memory import keep_freed_memory
from genus.ops.native import reason
from genus.recipes import make
from genus.run import Run
from genus.train.loader import Windows
from genus.train.telemetry import Telemetry
from genus.train.trainer import Budget, Plan, Trainer

WITHOUT = {
    "linear": "reference",
    "linears": "reference",
    "attention": "blocked",
    "linear_cross_entropy": "reference",
    "dropout": "packed",
    "rotary": "in place",
    "rms_norm": "fused",
    "layer_norm": "torch",
    "silu": "reference",
    "gelu_tanh": "sigmoid",
    "gated": "reference",
    "fast_weights": "chunked",
    "short_conv": "reference",
}
MEAN = 20  # updates to a point of a curve


@dataclass(frozen=True)
class Options:
    """What to train. rate: peak learning rate."""

    kinds: tuple[Literal["gpt2", "llama", "mistral", "bloom", "gemma2", "deltanet"], ...] = ("gpt2", "llama")
    steps: int = 200
    dim: int = 128
    depth: int = 4
    heads: int = 4
    context: int = 128
    batch: int = 8
    rate: float = 1e-3
    threads: int | None = None


class Bytes:
    """A split of one document: the documentation, byte by byte."""

    def __init__(self) -> None:
        files = sorted(Path(__file__).parents[1].glob("docs/*.md"))
        self.data = np.frombuffer(b"\n".join(file.read_bytes() for file in files), dtype=np.uint8)
        self.tokens = len(self.data)
        self.ends = np.array([self.tokens])

    def read(self, start: int, stop: int) -> Any:
        return self.data[start:stop]


def curve(kind: str, seed: int, kernels: bool, options: Options) -> tuple[np.ndarray, float]:
    """(points) the mean loss of every 20 updates, in nats per byte; and the median of the processor seconds of an update."""
    sizes = {"dim": options.dim, "depth": options.depth, "heads": options.heads, "vocab": 257, "context": options.context}
    more = {"window": options.context // 4} if kind == "mistral" else {}
    recipe = make(kind, **sizes, **more)
    recipe = recipe.replace(training=recipe.training.replace(batch=options.batch, context=options.context))
    torch.manual_seed(seed)
    model = recipe.model.build(0)
    data = Windows(Bytes(), options.context, options.batch, seed)
    plan = Plan(options.rate, Budget(steps=options.steps), options.batch, torch.bfloat16, seed=seed, warmup=20)
    without = WITHOUT | ({"attention": "reference"} if kind == "gemma2" else {})  # torch's other paths have no capped scores
    with tempfile.TemporaryDirectory() as folder, nullcontext() if kernels else forced(**without):
        run = Run.create(Path(folder) / "run", {})
        trainer = Trainer(recipe, model, data, None, run, plan, Telemetry(run, 1.0, 1.0, 1.0, quiet=True), lambda loss: loss)
        losses, seconds = [], []
        for _ in range(options.steps):
            begin = time.process_time()
            total, _, _, count = trainer.update()
            seconds.append(time.process_time() - begin)
            losses.append(total / count)
    return np.array(losses).reshape(-1, MEAN).mean(1), float(np.median(seconds))


def agree(kind: str, options: Options) -> bool:
    """Print the four curves; whether the kernels' are as near as they should be."""
    found = [[curve(kind, seed, kernels, options) for seed in (0, 1)] for kernels in (True, False)]
    with_, without = ([losses for losses, _ in runs] for runs in found)
    own, other = (min(seconds for _, seconds in runs) for runs in found)
    print(f"\n{kind}: {options.depth} layers, {options.dim} wide, context {options.context}, batch {options.batch}")
    print(
        f"{'updates':>8}"
        + "".join(f"{name:>18}" for name in ("kernels, seed 0", "torch, seed 0", "kernels, seed 1", "torch, seed 1"))
    )
    for i, row in enumerate(zip(with_[0], without[0], with_[1], without[1], strict=True)):
        print(f"{(i + 1) * MEAN:>8}" + "".join(f"{loss:>18.4f}" for loss in row))
    seeds = np.abs(without[0] - without[1])[1:]
    paths = np.abs(np.array(with_) - np.array(without))[:, 1:]
    print(f"between seeds: {seeds.mean():.4f} on average, {seeds.max():.4f} at most")
    print(f"between paths: {paths.mean():.4f} on average, {paths.max():.4f} at most")
    print(f"processor time of an update: {1e3 * own:.0f} ms with the kernels, {1e3 * other:.0f} without, {other / own:.2f} times")
    return bool(paths.mean() <= seeds.mean() and paths.max() <= seeds.max())


def main(options: Options) -> int:
    if options.steps % MEAN or options.steps < 2 * MEAN:
        raise ValueError(f"--steps {options.steps} must be a multiple of {MEAN}, and at least {2 * MEAN}")
    if reason("attention"):
        raise ValueError(f"there are no kernels to compare here: {reason('attention')}")
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    agreed = [agree(kind, options) for kind in options.kinds]
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
