"""Rotary position embedding (Su et al. 2021), half-split convention."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order
from genus.ops.native import computes, reads


@Op
def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first 2n features of every head by its position's angles.

    Args:
        x: (batch, heads, time, head_dim).
        cos, sin: (time, n) or (batch, 1, time, n), n <= head_dim / 2; features i and n + i form a pair.
    """
    n = cos.shape[-1]
    a, b, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


class _Rotation(torch.autograd.Function):
    """Written straight into place; the gradient is turned back by the same angles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    n = cos.shape[-1]
    y = torch.empty_like(x)
    a, b = x[..., :n], x[..., n : 2 * n]
    torch.mul(a, cos, out=y[..., :n]).addcmul_(b, sin, value=-way)
    torch.mul(b, cos, out=y[..., n : 2 * n]).addcmul_(a, sin, value=way)
    if 2 * n < x.shape[-1]:
        y[..., 2 * n :] = x[..., 2 * n :]
    return y


def _given(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether the angles are in the precision of x, and nobody learns them."""
    learnt = torch.is_grad_enabled() and (cos.requires_grad or sin.requires_grad)
    return x.dtype == cos.dtype == sin.dtype and not learnt


def _eager_cpu(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    return x.is_cpu and _given(x, cos, sin) and not torch.compiler.is_compiling()  # a compiler fuses the reference


def _kernel() -> native.Kernel | None:
    return native.kernel("rows", "genus_rotary", "pppppnnnnnnppn")


_TWO, _THREE = ctypes.c_int64 * 2, ctypes.c_int64 * 3


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """By the kernel in C; a row's numbers lie side by side."""
    cos, sin = cos.contiguous(), sin.contiguous()
    y = torch.empty_like(x)
    batch, heads, time, size = x.shape
    n = cos.shape[-1]
    turns = _TWO(time * n if cos.dim() == 4 and len(cos) > 1 else 0, n)
    of_x, of_y = _THREE(*x.stride()[:3]), _THREE(*y.stride()[:3])
    function = _kernel()
    assert function is not None
    function(
        x.data_ptr(),
        of_x,
        cos.data_ptr(),
        sin.data_ptr(),
        turns,
        batch,
        heads,
        time,
        size,
        n,
        x.dtype == torch.bfloat16,
        y.data_ptr(),
        of_y,
        torch.get_num_threads(),
        held=(x, cos, sin, y),
    )
    return y


class _NativeRotation(torch.autograd.Function):
    """The same with the kernel in C."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        g = grads[0] if grads[0].stride(3) == 1 else grads[0].contiguous()
        return _turned(g, cos, -sin), None, None


def _fits_native(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    if x.stride(3) != 1 or cos.shape[-2] != x.shape[2] or cos.shape != sin.shape:
        return False
    return computes(x) and _given(x, cos, sin) and _kernel() is not None


@rotary.path("native", when=_fits_native)
def _rotary_native(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The kernel in C: in a step of decoding the way through torch takes longer than the work."""
    return _turned(x, cos, sin) if reads(x) else _NativeRotation.apply(x, cos, sin)  # type: ignore[no-any-return]


@rotary.path("in place", when=_eager_cpu)
def _rotary_in_place(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return _Rotation.apply(x, cos, sin)  # type: ignore[no-any-return]
