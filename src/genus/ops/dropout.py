"""Dropout (Srivastava et al. 2014) with cheap random numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order
from genus.ops.native import computes, number

LARGEST = 65535 / 65536  # of the probabilities that 16 bits tell from 1


@Op
def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p); the identity when not training."""
    if not training or p == 0.0:
        return x
    return x * (torch.rand_like(x, dtype=torch.float32) >= p).to(x.dtype) / (1 - p if p < 1 else 1)


def _kernel() -> native.Kernel | None:
    return native.kernel("training", "genus_dropout", "pnnpnnpn")


class _Native(torch.autograd.Function):
    """The kernel in C, which makes a number's random bits from its place and a seed: on any number of threads, and again for the
    gradient, so that nothing is kept. `p` is rounded to 1/65536."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        return _dropped(x, p, seed)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _dropped(grads[0], ctx.p, ctx.seed), None, None


def draw() -> int:
    """A seed of 64 bits."""
    return int(torch.empty((), dtype=torch.int64).random_(-(2**63), None))


def _dropped(x: Tensor, p: float, seed: int) -> Tensor:
    threshold = round(p * 65536)
    x = x.contiguous()
    y = torch.empty_like(x)
    function = _kernel()
    assert function is not None
    function(
        x.data_ptr(),
        seed,
        threshold,
        number(65536 / (65536 - threshold)),
        x.numel(),
        x.dtype == torch.bfloat16,
        y.data_ptr(),
        torch.get_num_threads(),
        held=(x, y),
    )
    return y


@dropout.path("native", when=lambda x, p, training=True: training and 0 < p <= LARGEST and computes(x) and _kernel() is not None)
def _dropout_native(x: Tensor, p: float, training: bool = True) -> Tensor:
    return _Native.apply(x, p, draw())  # type: ignore[no-any-return]


@dropout.path(
    "packed",
    when=lambda x, p, training=True: training and 0 < p <= LARGEST and x.is_cpu and not torch.compiler.is_compiling(),
)
def _dropout_packed(x: Tensor, p: float, training: bool = True) -> Tensor:
    """The CPU generator runs on one thread, so draw 64 bits once for four 16-bit thresholds. `p` is rounded to 1/65536."""
    threshold = round(p * 65536)
    n = x.numel()
    bits = torch.empty((n + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    keep = bits.view(torch.int16)[:n].view(x.shape) >= threshold - 32768
    return x * (keep.to(x.dtype) * (65536 / (65536 - threshold)))
