"""Layer normalisation (Ba et al. 2016) and root-mean-square normalisation (Zhang & Sennrich 2019)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order
from genus.ops.native import computes, number, reads

PARTS = 16  # of the rows, as in ops/cpu/training.c


def _kernel() -> native.Kernel | None:
    return native.kernel("rows", "genus_norm", "ppppnnnnppn")


def _backward_kernel() -> native.Kernel | None:
    return native.kernel("training", "genus_norm_backward", "ppppnnnnppn")


def _normalised(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, centred: bool, kept: Tensor | None = None) -> Tensor:
    """By the kernel in C, all dense. `kept` (rows, 2) float32 is filled with what the backward pass needs of every row."""
    size = x.shape[-1]
    y = torch.empty_like(x)
    function = _kernel()
    assert function is not None
    function(
        x.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        number(eps),
        centred,
        x.numel() // max(1, size),
        size,
        x.dtype == torch.bfloat16,
        y.data_ptr(),
        None if kept is None else kept.data_ptr(),
        torch.get_num_threads(),
        held=(x, weight, bias, y, kept),
    )
    return y


class _Norm(torch.autograd.Function):
    """The kernels in C. Keeps the input and two numbers per row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, centred: bool) -> Tensor:
        kept = torch.empty(x.numel() // max(1, x.shape[-1]), 2)
        own = weight.float().contiguous()
        ctx.save_for_backward(x, own, kept)
        ctx.centred, ctx.dtypes = centred, (weight.dtype, None if bias is None else bias.dtype)
        return _normalised(x, own, None if bias is None else bias.float().contiguous(), eps, centred, kept)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, kept = ctx.saved_tensors
        g, d_x = grads[0].contiguous(), torch.empty_like(x)
        parts = torch.zeros(PARTS, 2, x.shape[-1])
        function = _backward_kernel()
        assert function is not None
        function(
            g.data_ptr(),
            x.data_ptr(),
            weight.data_ptr(),
            kept.data_ptr(),
            ctx.centred,
            len(kept),
            x.shape[-1],
            x.dtype == torch.bfloat16,
            d_x.data_ptr(),
            parts.data_ptr(),
            torch.get_num_threads(),
            held=(g, x, weight, kept, d_x, parts),
        )
        d_weight, d_bias = parts.sum(0)
        of_weight, of_bias = ctx.dtypes
        return d_x, d_weight.to(of_weight), None if of_bias is None else d_bias.to(of_bias), None, None


def _native(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, centred: bool) -> Tensor:
    x = x.contiguous()
    if reads(x, weight, *(() if bias is None else (bias,))):
        bias = None if bias is None else bias.float().contiguous()
        return _normalised(x, weight.float().contiguous(), bias, eps, centred)
    return _Norm.apply(x, weight, bias, eps, centred)  # type: ignore[no-any-return]


def _fits(x: Tensor, *parameters: Tensor | None) -> bool:
    if not computes(x) or any(p is not None and p.shape != x.shape[-1:] for p in parameters):
        return False
    return _kernel() is not None and _backward_kernel() is not None


@Op
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Zero mean and unit variance over the last dimension, then scale and shift; statistics in float32."""
    y = x.float()
    y = (y - y.mean(-1, keepdim=True)) * (y.var(-1, unbiased=False, keepdim=True) + eps).rsqrt()
    y = y * weight
    return (y if bias is None else y + bias).to(x.dtype)


@layer_norm.path("native", when=lambda x, weight, bias, eps: _fits(x, weight, bias))
def _layer_norm_native(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """The kernels in C: in a step of decoding the way through torch takes longer than the work."""
    return _native(x, weight, bias, eps, True)


@layer_norm.path("torch", when=lambda *_: True)
def _layer_norm_torch(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    return F.layer_norm(
        x,
        x.shape[-1:],
        weight.to(x.dtype),
        None if bias is None else bias.to(x.dtype),
        eps,
    )


@Op
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last dimension; statistics in float32."""
    y = x.float()
    return (y * (y.square().mean(-1, keepdim=True) + eps).rsqrt() * weight).to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    """RMS norm that keeps only its input and one number per row, and whose passes stay in the input's precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = (norm.square() / x.shape[-1] + eps).rsqrt()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale.to(x.dtype)).mul_(weight.to(x.dtype))

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        scale_x = scale.to(x.dtype)
        unit = x * scale_x
        product = grads[0] * unit
        rows = product.reshape(-1, x.shape[-1])
        weight_grad = (rows.new_ones(1, len(rows)) @ rows)[0].to(weight.dtype)  # a sum over rows, three times as fast
        dot = (rows @ weight.to(x.dtype)).view_as(scale) / x.shape[-1]
        x_grad = (grads[0] * weight.to(x.dtype)).addcmul_(unit, dot.to(x.dtype), value=-1).mul_(scale_x)
        return x_grad, weight_grad, None


@rms_norm.path("native", when=lambda x, weight, eps: _fits(x, weight))
def _rms_norm_native(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The kernels in C."""
    return _native(x, weight, None, eps, False)


@rms_norm.path("fused", when=lambda x, weight, eps: x.dtype == torch.bfloat16 and computes(x))  # a compiler fuses the rest
def _rms_norm_fused(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return _RMSNorm.apply(x.contiguous(), weight, eps)  # type: ignore[no-any-return]


@rms_norm.path("torch", when=lambda x, weight, eps: True)
def _rms_norm_torch(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight.to(x.dtype), eps)
