"""Layer normalisation (Ba et al. 2016) and root-mean-square normalisation (Zhang & Sennrich 2019)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops.dispatch import Op


@Op
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Zero mean and unit variance over the last dimension, then scale and shift; statistics in float32."""
    y = x.float()
    y = (y - y.mean(-1, keepdim=True)) * (y.var(-1, unbiased=False, keepdim=True) + eps).rsqrt()
    y = y * weight
    return (y if bias is None else y + bias).to(x.dtype)


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


@rms_norm.path(
    "fused",
    when=lambda x, weight, eps: (
        x.device.type == "cpu" and x.dtype == torch.bfloat16 and not torch.compiler.is_compiling()  # a compiler fuses the rest
    ),
)
def _rms_norm_fused(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return _RMSNorm.apply(x.contiguous(), weight, eps)  # type: ignore[no-any-return]


@rms_norm.path("torch", when=lambda x, weight, eps: True)
def _rms_norm_torch(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight.to(x.dtype), eps)
