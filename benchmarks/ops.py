"""Every path of the costly operations, forward and backward, at the sizes of a training step.

    python -m benchmarks.ops                  # one thread, processor time: other programs disturb it little
    python -m benchmarks.ops --threads 2      # wall time; wants a quiet machine
    python -m benchmarks.ops --device cuda    # wall time until the GPU has finished, kernels in Triton among the paths

bfloat16 activations over float32 weights. The paths take turns; the table shows the least of the rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz

from genus.ops import processor
from genus.ops.activation import gated, gelu_tanh
from genus.ops.attention import attention
from genus.ops.cross_entropy import linear_cross_entropy
from genus.ops.dispatch import Op, forced
from genus.ops.dropout import dropout
from genus.ops.fast_weights import fast_weights
from genus.ops.linear import linear
from genus.ops.memory import keep_freed_memory
from genus.ops.newton_schulz import EPS, FACTORS, STEPS, newton_schulz
from genus.ops.norm import layer_norm, rms_norm
from genus.ops.rotary import rotary

BF16 = torch.bfloat16
LOOPS = {"sum_scan": "reference", "key_scan": "reference", "delta_scan": "batched", "unit_lower_inverse": "products"}
Case = tuple[str, dict[str, Callable[[], Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Options:
    """device: cpu or cuda. threads: of torch; with one on the CPU, processor time is measured, else wall time.

    rounds: turns of every path. only: cases whose names contain one of these words; all where there are none.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    rounds: int = 5
    only: tuple[str, ...] = ()


def _leaf(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype).requires_grad_()


def _paths(op: Op[..., Tensor], *args: Any, but: str = "") -> dict[str, Callable[[], Tensor]]:
    """The readable definition and every path but `but` that takes these arguments, as calls without arguments."""
    functions = {"reference": op.reference, **{name: path for name, (fits, path) in op.paths.items() if fits(*args)}}
    return {name: lambda f=f: f(*args) for name, f in functions.items() if name != but}  # type: ignore[misc]


def _outputs(op: Op[..., Any], *args: Any) -> dict[str, Callable[[], Tensor]]:
    """The paths of an op whose output comes with a memory, but the definition, which goes position by position."""
    calls = _paths(op, *args, but="reference")
    found: dict[str, Callable[[], Tensor]] = {name: lambda call=call: call()[0] for name, call in calls.items()}  # type: ignore[misc]
    return found | ({"loops in torch": _looped(found["chunked"])} if args[0].is_cuda else {})


def _looped(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same without the kernels in Triton for what runs along time."""

    def run() -> Tensor:
        with forced(**LOOPS):
            return call()

    return run


def cases() -> Iterator[Case]:
    for batch, heads, time_, head in ((64, 4, 64, 32), (16, 6, 256, 64), (4, 8, 512, 64), (4, 8, 1024, 64)):
        qkv = [_leaf(batch, time_, heads, head, dtype=BF16) for _ in range(3)]
        seen = [t.transpose(1, 2) for t in qkv]
        yield f"attention {batch} x {heads} x {time_} x {head}, causal", _paths(attention, *seen, None, True, head**-0.5), qkv
    qkv = [_leaf(4, 512, 8, 64, dtype=BF16) for _ in range(3)]
    seen = [t.transpose(1, 2) for t in qkv]
    yield "attention 4 x 8 x 512 x 64, dropout 0.1", _paths(attention, *seen, None, False, 0.125, None, 0.1), qkv
    bias = _leaf(8, 1023)
    yield "attention 4 x 8 x 512 x 64, bias", _paths(attention, *seen, None, False, 0.125, None, 0.0, None, bias), [*qkv, bias]
    qkv = [_leaf(2, 2048, 8, 64, dtype=BF16) for _ in range(3)]
    seen = [t.transpose(1, 2) for t in qkv]
    yield "attention 2 x 8 x 2048 x 64, window 256", _paths(attention, *seen, None, True, 0.125, None, 0.0, 256), qkv
    doc = (torch.arange(512) // 150).expand(4, -1)
    qkv = [_leaf(4, 512, 8, 64, dtype=BF16) for _ in range(3)]
    same = (doc[:, :, None] == doc[:, None, :])[:, None]
    seen = [t.transpose(1, 2) for t in qkv]
    yield "attention 4 x 8 x 512 x 64, documents", _paths(attention, *seen, same, True, 0.125), qkv
    for batch, time_ in ((4, 512), (1, 8192)):
        shape = (batch, 8, time_, 64)
        q, k, v = (F.normalize(torch.randn(shape).abs(), dim=-1).to(BF16).requires_grad_() for _ in range(3))
        beta, decay = torch.rand(shape[:3]).requires_grad_(), (-0.1 * torch.rand(shape[:3])).requires_grad_()
        size = " x ".join(map(str, shape))
        yield f"linear attention {size}", _outputs(fast_weights, q, k, v, *[None] * 5, True), [q, k, v]
        yield f"delta rule {size}", _outputs(fast_weights, q, k, v, None, beta), [q, k, v, beta]
        yield f"gated delta rule {size}", _outputs(fast_weights, q, k, v, decay, beta), [q, k, v, decay, beta]
    x, w, b = _leaf(4096, 384, dtype=BF16), _leaf(1536, 384), _leaf(1536)
    yield "linear 384 to 1536 with bias, 4096 rows", _paths(linear, x, w, b), [x, w, b]
    x, w, y = _leaf(2048, 512, dtype=BF16), _leaf(16384, 512), torch.randint(0, 16384, (2048,))
    yield "cross-entropy of 16384, 512 wide, 2048 rows", _paths(linear_cross_entropy, x, w, y), [x, w]
    x, w, b = _leaf(8192, 512, dtype=BF16), _leaf(512), _leaf(512)
    yield "rms_norm 8192 x 512", _paths(rms_norm, x, w, 1e-5), [x, w]
    yield "layer_norm 8192 x 512", _paths(layer_norm, x, w, b, 1e-5), [x, w, b]
    x = _leaf(2048, 2048, dtype=BF16)
    yield "gelu 2048 x 2048", {"erf, in torch": lambda: F.gelu(x), **_paths(gelu_tanh, x)}, [x]
    gate, up = _leaf(2048, 2048, dtype=BF16), _leaf(2048, 2048, dtype=BF16)
    apart = {"silu, then product": lambda: F.silu(gate) * up, "kernel": lambda: gated("silu", gate, up)}
    yield "gated silu 2048 x 2048", apart, [gate, up]
    qk, angle = _leaf(8, 512, 8, 64, dtype=BF16), torch.rand(512, 32) * 6
    yield "rotary 8 x 8 x 512 x 64", _paths(rotary, qk.transpose(1, 2), angle.cos().to(BF16), angle.sin().to(BF16)), [qk]
    yield "dropout 2048 x 2048", _paths(dropout, x, 0.1, True), [x]
    for count, rows, columns in ((16, 128, 128), (2, 384, 1024)):
        matrices = torch.randn(count, rows, columns)
        alone = {
            "torch, singly": lambda m=matrices: torch.stack([_zeropower_via_newtonschulz(one, FACTORS, STEPS, EPS) for one in m])
        }
        yield f"newton_schulz {count} x {rows} x {columns}", alone | _paths(newton_schulz, matrices), []


def _least(case: Case, rounds: int, clock: Callable[[], float]) -> dict[str, tuple[float, float]]:
    """Milliseconds forward and backward of every path."""
    _, calls, leaves = case
    best = {name: (float("inf"), float("inf")) for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            y = call()
            middle = clock()
            g = torch.randn(y.shape).to(y.dtype)
            begin = clock()
            if leaves:
                torch.autograd.grad(y, leaves, g)
            end = clock()
            if turn:
                best[name] = min(best[name][0], middle - start), min(best[name][1], end - begin)
    return {name: (1e3 * f, 1e3 * b) for name, (f, b) in best.items()}


def _finished() -> float:
    """Wall time, once the GPU has done what it was told."""
    torch.cuda.synchronize()
    return time.perf_counter()


def main(options: Options) -> None:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here: leave out --device cuda, or see what `genus doctor` says")
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.set_default_device(options.device)
    if options.device == "cuda":
        clock, machine = _finished, torch.cuda.get_device_name()
    else:
        clock = time.process_time if options.threads == 1 else time.perf_counter
        machine = f"{processor.name()}, {options.threads} threads"
    print(f"{machine}, torch {torch.__version__}")
    print(f"{'':<46}{'path':<14}{'forward ms':>12}{'backward ms':>12}{'both':>9}")
    for case in cases():
        if options.only and not any(word in case[0] for word in options.only):
            continue
        for i, (name, (f, b)) in enumerate(sorted(_least(case, options.rounds, clock).items(), key=lambda item: -sum(item[1]))):
            print(f"{'' if i else case[0]:<46}{name:<14}{f:>12.2f}{b:>12.2f}{f + b:>9.2f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
