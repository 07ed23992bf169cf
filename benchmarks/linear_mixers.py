"""Attention's rivals at growing context: linear attention and the delta rule beside PyTorch's fused attention.

    python -m benchmarks.linear_mixers [bfloat16|float32] [rounds]

Forward and backward, 4096 tokens a step (one row where the context is longer), 8 heads of 64. First the ops alone, with
transformers' PyTorch form of the gated delta rule as a second peer; then whole layers of width 512. Rounds alternate; the table
shows the least time of each, over the rounds during which other processes were quiet where there were any (a star where there
were none), and its ratio to fused attention. Flash Linear Attention, the usual peer, has GPU kernels only.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmarks._quiet import Window, watch
from torch import Tensor

from genus.ops.fast_weights import fast_weights
from genus.ops.memory import keep_freed_memory
from genus.parts.attention import Attention
from genus.parts.conv import ShortConv
from genus.parts.ctx import Ctx
from genus.parts.fast_weights import Delta, FastWeights, SelectiveDecay
from genus.parts.features import UnitLength
from genus.parts.norm import RMSNorm

HEADS, WIDTH, TOKENS, LENGTHS = 8, 64, 4096, (512, 2048, 8192)
DELTA = FastWeights(HEADS, feature=UnitLength(), rule=Delta(), normalise=False, out_norm=RMSNorm(), conv=ShortConv())
LAYERS = {
    "attention": Attention(HEADS),
    "linear attention": FastWeights(HEADS),
    "deltanet": DELTA,
    "gated deltanet": DELTA.replace(decay=SelectiveDecay(), gate="silu"),
}


def ops(time: int, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """Calls whose results can be sent backward."""
    shape = (max(1, TOKENS // time), HEADS, time, WIDTH)

    def draw() -> Tensor:
        return torch.randn(shape).to(dtype)

    q, k, v = (draw().requires_grad_() for _ in range(3))
    positive_q, positive_k = (draw().abs().requires_grad_() for _ in range(2))
    unit_q, unit_k = (F.normalize(draw(), dim=-1).requires_grad_() for _ in range(2))
    beta = torch.rand(shape[:3]).requires_grad_()
    decay = (-0.1 * torch.rand(shape[:3])).requires_grad_()
    calls = {
        "attention": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        "linear attention": lambda: fast_weights(positive_q, positive_k, v, normalise=True)[0],
        "delta": lambda: fast_weights(unit_q, unit_k, v, beta=beta)[0],
        "gated delta": lambda: fast_weights(unit_q, unit_k, v, decay, beta)[0],
    }
    try:
        from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule as peer
    except ImportError:
        print("transformers is not installed: its gated delta rule is left out")
        return calls

    def theirs() -> Tensor:
        y: Tensor = peer(*(x.transpose(1, 2) for x in (unit_q, unit_k, v, decay, beta)))[0]
        return y.transpose(1, 2)

    return calls | {"gated delta (transformers)": theirs}


def layers(time: int, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    x = torch.randn(max(1, TOKENS // time), time, HEADS * WIDTH).to(dtype).requires_grad_()
    ctx = Ctx(torch.arange(time))
    calls = {}
    for name, spec in LAYERS.items():
        module = spec.build(HEADS * WIDTH)
        for p in module.parameters():
            if p.dim() == 2:
                torch.nn.init.normal_(p, std=0.04)
        calls[name] = lambda module=module: module(x, ctx)
    return calls


def once(call: Callable[[], Tensor]) -> Window:
    def work() -> None:
        y = call()
        y.backward(torch.ones_like(y))

    return watch(work)


def least(windows: list[Window]) -> Window:
    return min([w for w in windows if w.quiet] or windows, key=lambda w: w.seconds)


def table(
    title: str, make: Callable[[int, torch.dtype], dict[str, Callable[[], Tensor]]], dtype: torch.dtype, rounds: int
) -> None:
    results: dict[str, list[Window]] = {}
    for length in LENGTHS:
        calls = make(length, dtype)
        windows: dict[str, list[Window]] = {name: [] for name in calls}
        for turn in range(rounds + 1):  # the first turn warms up
            for name, call in calls.items():
                window = once(call)
                if turn:
                    windows[name].append(window)
        for name, taken in windows.items():
            results.setdefault(name, []).append(least(taken))
    print(f"\n{title:<28}" + "".join(f"{f'T = {t}: ms':>16}{'speed-up':>10}" for t in LENGTHS))
    for name, best in results.items():
        cells = (
            f"{1000 * w.seconds:>15.1f}{' ' if w.quiet else '*'}{a.seconds / w.seconds:>9.2f}x"
            for w, a in zip(best, results["attention"], strict=True)
        )
        print(f"{name:<28}" + "".join(cells), flush=True)


def main() -> None:
    dtype = getattr(torch, sys.argv[1]) if len(sys.argv) > 1 else torch.bfloat16
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    keep_freed_memory()
    print(f"{dtype}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, least of {rounds} rounds")
    table("op", ops, dtype, rounds)
    table("layer", layers, dtype, rounds)


if __name__ == "__main__":
    main()
