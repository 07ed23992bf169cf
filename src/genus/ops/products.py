"""Matrix products in bf16 by the kernels in C (`ops/cpu/products.c`), for training.

Weights are rounded to bf16 while the kernel lays them out, so no copy of them is made; several products are summed in registers;
and what comes back to a weight is summed in float32, where it stays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.first_order import first_order

ROWS = 16  # of an input, below which laying out the weights takes longer than the product


class _Factors(ctypes.Structure):
    _fields_ = [("a", ctypes.c_void_p), ("b", ctypes.c_void_p)] + [
        (name, ctypes.c_int64) for name in ("stride", "size", "bf16", "across")
    ]


def _kernel() -> native.Kernel | None:
    return native.kernel("products", "genus_product", "pnnnppnnppnn")


def _backward_kernel() -> native.Kernel | None:
    return native.kernel("products", "genus_product_back", "pnpnnnnppnn")


@cache
def available() -> bool:
    """Whether there are the kernels, and no tiles in the processor (AMX) with which torch is faster."""
    return not torch.cpu._is_amx_tile_supported() and _kernel() is not None and _backward_kernel() is not None


def fits(x: Tensor, weights: Sequence[Any], biases: Sequence[Tensor | None]) -> bool:
    """Whether `multiply` may run: x in bf16 and weights in float32, something to come back, even widths, rows enough."""
    width = x.shape[-1]
    if x.dtype != torch.bfloat16 or width % 2 or not torch.is_grad_enabled() or x.numel() < ROWS * max(1, width):
        return False
    needed = x.requires_grad
    for w, bias in zip(weights, biases, strict=True):
        if not isinstance(w, Tensor) or w.dtype != torch.float32 or not w.is_cpu:
            return False
        if w.dim() != 2 or w.shape[1] != width or not w.is_contiguous():
            return False
        if not len(w) or len(w) % 2 or (bias is not None and bias.shape != (len(w),)):
            return False
        needed = needed or w.requires_grad
    return needed and native.computes(x) and available()


def rows_of(x: Tensor) -> Tensor:
    """x (..., size) as rows (n, size) that a kernel can read: the numbers of a row side by side, rows an even number apart."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 and rows.stride(0) % 2 == 0 and rows.stride(0) >= rows.shape[1] else rows.contiguous()


def product(
    y: Tensor,
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    across: bool,
    bias: Tensor | None = None,
    add: bool = False,
    plus: Tensor | None = None,
    times: tuple[float, float] = (1.0, 1.0),
    symmetric: bool = False,
) -> Tensor:
    """y (..., columns), bf16 or float32 and dense = the sum over every x (rows, size) of x @ w, or where `across` of x @ w.T.

    `bias`: (columns,) float32, added. `add`: to what stands in y, float32. `plus`: bf16, shaped as y and dense: y becomes
    times[0] of the sum and times[1] of that. `symmetric`: y, bf16, is known to be so, and half of it is computed.
    """
    factors = (_Factors * len(xs))(
        *(
            _Factors(x.data_ptr(), w.data_ptr(), x.stride(0), x.shape[1], w.dtype == torch.bfloat16, across)
            for x, w in zip(xs, weights, strict=True)
        )
    )
    function = _kernel()
    assert function is not None
    function(
        factors,
        len(xs),
        len(xs[0]),
        y.shape[-1],
        native.pointer(bias),
        y.data_ptr(),
        y.dtype == torch.bfloat16,
        add,
        native.pointer(plus),
        None if plus is None else (ctypes.c_float * 2)(*times),
        symmetric,
        torch.get_num_threads(),
        held=(*xs, *weights, bias, y, plus),
    )
    return y


def product_back(y: Tensor, g: Tensor, x: Tensor, add: bool = False, sums: Tensor | None = None) -> Tensor:
    """y (rows, columns), float32 and dense = g.T @ x of g (n, rows) and x (n, columns). `add`: to what stands in y.

    `sums`: (rows,) float32, to which the rows of g are added while they are laid out.
    """
    function = _backward_kernel()
    assert function is not None
    function(
        g.data_ptr(),
        g.stride(0),
        x.data_ptr(),
        x.stride(0),
        len(x),
        *y.shape,
        y.data_ptr(),
        native.pointer(sums),
        add,
        torch.get_num_threads(),
        held=(g, x, y, sums),
    )
    return y


def add_rows(sums: Tensor, g: Tensor) -> Tensor:
    """sums (columns,) float32 and dense, to which the rows of g (n, columns) are added; torch copies bf16 to float32 for it."""
    function = native.kernel("products", "genus_sum_rows", "pnnnpn") if g.dtype == torch.bfloat16 and g.is_cpu else None
    if function is None:
        return sums.add_(g.sum(0, dtype=torch.float32))
    rows = rows_of(g)
    function(rows.data_ptr(), rows.stride(0), *rows.shape, sums.data_ptr(), torch.get_num_threads(), held=(rows, sums))
    return sums


class _Multiply(torch.autograd.Function):
    """Products of one input with several weights, with a bias or None for each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, *parameters: Tensor | None) -> tuple[Tensor, ...]:
        weights, biases = parameters[:count], parameters[count:]
        rows = rows_of(x)
        ctx.save_for_backward(rows, *weights)
        ctx.shape, ctx.biases = x.shape, [None if b is None else b.dtype for b in biases]
        return tuple(
            product(x.new_empty(*x.shape[:-1], len(w)), [rows], [w], True, None if b is None else b.float().contiguous())
            for w, b in zip(weights, biases, strict=True)
            if w is not None
        )

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        gs = [rows_of(g) for g in grads]
        needs = ctx.needs_input_grad
        d_x = product(x.new_empty(ctx.shape), gs, weights, False) if needs[0] else None
        sums = [torch.zeros(len(w)) if need else None for w, need in zip(weights, needs[2 + len(weights) :], strict=True)]
        d_weights: list[Tensor | None] = []
        for g, w, need, of_bias in zip(gs, weights, needs[2 : 2 + len(weights)], sums, strict=True):
            d_weights.append(product_back(torch.empty_like(w), g, x, sums=of_bias) if need else None)
            if of_bias is not None and not need:
                add_rows(of_bias, g)
        d_biases = [None if s is None else s.to(dtype) for s, dtype in zip(sums, ctx.biases, strict=True)]
        return d_x, None, *d_weights, *d_biases


def multiply(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """x (..., in) @ w.T + bias of every weight (out, in), in bf16, where `fits` says so."""
    return _Multiply.apply(x, len(weights), *weights, *biases)  # type: ignore[no-any-return]
