"""What is done number by number, in C (`ops/cpu/rows.c`): the sums and products between a step's matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.native import number

ADD, MULTIPLY, RELU, GELU = range(4)


def kernel() -> native.Kernel | None:
    """The kernel, or None where it cannot be had."""
    return native.kernel("rows", "genus_pointwise", "nppnnpn")


def run(what: int, a: Tensor, b: Tensor | None = None) -> Tensor:
    """`what` of a, or of a and b. Both dense, of one shape, and both bf16 or both float32."""
    y = torch.empty_like(a)
    function = kernel()
    assert function is not None
    function(
        what,
        a.data_ptr(),
        None if b is None else b.data_ptr(),
        a.numel(),
        a.dtype == torch.bfloat16,
        y.data_ptr(),
        torch.get_num_threads(),
        held=(a, b, y),
    )
    return y


def scale(a: Tensor, times: float) -> Tensor:
    """a, dense, bf16 or float32, times a number."""
    y = torch.empty_like(a)
    function = native.kernel("rows", "genus_scale", "ppnnp")
    assert function is not None
    function(a.data_ptr(), number(times), a.numel(), a.dtype == torch.bfloat16, y.data_ptr(), held=(a, y))
    return y


def softcap(x: Tensor, cap: float) -> Tensor:
    """cap tanh(x / cap) of x, dense and float32."""
    y = torch.empty_like(x)
    function = native.kernel("rows", "genus_softcap", "ppnpn")
    assert function is not None
    function(x.data_ptr(), number(cap), x.numel(), y.data_ptr(), torch.get_num_threads(), held=(x, y))
    return y


def convert(x: Tensor) -> Tensor:
    """x, dense, in float32 where it is bf16, and in bf16 where it is float32."""
    bf16 = x.dtype == torch.bfloat16
    y = torch.empty_like(x, dtype=torch.float32 if bf16 else torch.bfloat16)
    function = native.kernel("rows", "genus_convert", "pnnp")
    assert function is not None
    function(x.data_ptr(), bf16, x.numel(), y.data_ptr(), held=(x, y))
    return y
