"""Pointwise non-linearities by their published names."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import pointwise
from genus.ops.dispatch import Op
from genus.ops.native import reads

ACTIVATIONS = ("relu", "relu2", "gelu", "gelu_tanh", "silu", "tanh")
B = 2 * math.sqrt(2 / math.pi)
A = 0.044715 * B


def activation(name: str, x: Tensor) -> Tensor:
    """`relu`, `relu2` (squared), `gelu` (erf), `gelu_tanh` (Hendrycks & Gimpel's approximation, as in GPT-2), `silu`, `tanh`."""
    match name:
        case "relu":
            return F.relu(x)
        case "relu2":
            return F.relu(x).square()
        case "gelu":
            return gelu(x)
        case "gelu_tanh":
            return gelu_tanh(x)
        case "silu":
            return silu(x)
        case "tanh":
            return x.tanh()
    raise ValueError(f"there is no activation {name!r}; choose one of: {', '.join(ACTIVATIONS)}")


@Op
def silu(x: Tensor) -> Tensor:
    """x sigmoid(x) (Elfwing et al. 2017)."""
    return F.silu(x)


@Op
def gelu(x: Tensor) -> Tensor:
    """x times the share of a normal distribution below x (Hendrycks & Gimpel 2016)."""
    return F.gelu(x)


@Op
def gelu_tanh(x: Tensor) -> Tensor:
    """x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³))) (Hendrycks & Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


class _SigmoidGELU(torch.autograd.Function):
    """The same as x sigmoid(x (B + A x²)): torch's vector sigmoid is three times as fast as its tanh. Keeps the sigmoid."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        s = torch.addcmul(x.new_tensor(B), x, x, value=A).mul_(x).sigmoid_()
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, s = ctx.saved_tensors
        inner = torch.addcmul(x.new_tensor(B), x, x, value=3 * A)
        slope: Tensor = torch.ops.aten.sigmoid_backward(inner.mul_(x), s)  # x u'(x) s (1 - s)
        return slope.add_(s).mul_(grads[0])


def _dense(x: Tensor) -> bool:
    return reads(x) and x.is_contiguous() and pointwise.kernel() is not None


@silu.path("native", when=_dense)
def _silu_native(x: Tensor) -> Tensor:
    """The kernel in C."""
    return pointwise.run(pointwise.SILU, x)


@gelu.path("native", when=_dense)
def _gelu_native(x: Tensor) -> Tensor:
    """The kernel in C."""
    return pointwise.run(pointwise.GELU, x)


@gelu_tanh.path("native", when=_dense)
def _gelu_tanh_native(x: Tensor) -> Tensor:
    """The kernel in C."""
    return pointwise.run(pointwise.GELU_TANH, x)


def _eager_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and not torch.compiler.is_compiling()


@gelu_tanh.path("sigmoid", when=_eager_cpu)
def _gelu_tanh_sigmoid(x: Tensor) -> Tensor:
    return _SigmoidGELU.apply(x)  # type: ignore[no-any-return]
