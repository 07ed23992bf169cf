"""Recurrent layers beside PyTorch's own modules: two layers, forward and backward.

    python -m benchmarks.recurrent                       # 2 x 650 (Zaremba et al. 2014), 35 steps, batches of 20 and 128
    python -m benchmarks.recurrent --hidden 200 1500 --batches 20
    python -m benchmarks.recurrent --cpu --rounds 9      # processor time, on a machine that others use

float32 masters everywhere; a pass in bf16 includes their casts. Contestants take turns; the table shows the least time of each
over the windows during which other processes used under 10 % of the processors (a star where there were none), words per second,
and the fraction of the speed of a square bf16 matrix product measured in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from benchmarks._quiet import Window, watch
from torch import Tensor, nn

from genus.ops.memory import keep_freed_memory
from genus.parts.ctx import Ctx
from genus.parts.recurrent import Recurrent
from genus.train.machine import describe, matmul_ceiling


@dataclass(frozen=True)
class Options:
    """What to measure. cpu: processor time instead of the clock's. threads: of torch; 0 = its own choice."""

    hidden: tuple[int, ...] = (650,)
    batches: tuple[int, ...] = (20, 128)
    steps: int = 35
    rounds: int = 7
    threads: int = 0
    cpu: bool = False


def contestants(cell: Any, hidden: int, batch: int, steps: int) -> dict[str, Callable[[], Tensor]]:
    """Names, and what makes outputs that can be sent backward."""
    x = torch.randn(batch, steps, hidden)
    layers = [Recurrent(cell).build(hidden) for _ in range(2)]
    theirs = getattr(nn, cell)(hidden, hidden, 2, batch_first=True)
    low = getattr(nn, cell)(hidden, hidden, 2, batch_first=True).bfloat16()
    for layer in layers:
        for p in layer.parameters():
            nn.init.uniform_(p, -(hidden**-0.5), hidden**-0.5)
    ctx = Ctx(torch.arange(steps))

    def ours() -> Tensor:
        y = x.bfloat16()
        for layer in layers:
            y = layer(y, ctx)
        return y

    def cast() -> Tensor:
        masters = dict(theirs.named_parameters())
        y: Tensor = torch.func.functional_call(low, {name: p.bfloat16() for name, p in masters.items()}, (x.bfloat16(),))[0]
        return y

    return {f"genus {cell}, bf16": ours, f"torch {cell}, bf16": cast, f"torch {cell}, float32": lambda: theirs(x)[0]}


def once(call: Callable[[], Tensor], cpu: bool) -> Window:
    def work() -> None:
        y = call()
        y.backward(torch.ones_like(y))

    begin = time.process_time()
    window = watch(work)
    return Window(time.process_time() - begin, 0.0) if cpu else window


def compare(cell: str, gates: int, hidden: int, batch: int, options: Options, ceiling: float) -> None:
    """One table."""
    calls = contestants(cell, hidden, batch, options.steps)
    windows: dict[str, list[Window]] = {name: [] for name in calls}
    for turn in range(options.rounds + 1):  # the first turn warms up
        for name, call in calls.items():
            window = once(call, options.cpu)
            if turn:
                windows[name].append(window)
    least = {name: min([w for w in ws if w.quiet] or ws, key=lambda w: w.seconds) for name, ws in windows.items()}
    best = min(window.seconds for name, window in least.items() if not name.startswith("genus"))
    words = batch * options.steps
    flops = words * 2 * 2 * gates * hidden * hidden * 2 * 3  # layers, matrices; a product counts two, backward twice forward
    title = f"2 x {hidden}, {batch} rows of {options.steps}"
    print(f"\n{title:<28}{'ms':>10}{'words/s':>12}{'of ceiling':>12}{'speed-up':>10}")
    for name, window in least.items():
        print(
            f"{name:<28}{1000 * window.seconds:>9.1f}{' ' if window.quiet else '*'}{words / window.seconds:>12,.0f}"
            f"{flops / window.seconds / ceiling:>12.0%}{best / window.seconds:>9.2f}x",
            flush=True,
        )


def main(options: Options) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    ceiling = matmul_ceiling(torch.bfloat16, torch.device("cpu"))
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{describe()['device']}, {threads}; ceiling {ceiling / 1e12:.3f} TFLOP/s bf16")
    for cell, gates in (("LSTM", 4), ("GRU", 3)):
        for hidden in options.hidden:
            for batch in options.batches:
                compare(cell, gates, hidden, batch, options, ceiling)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
