"""Pointwise non-linearities by their published names."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native, pointwise
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order
from genus.ops.native import computes, reads

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
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, s = ctx.saved_tensors
        inner = torch.addcmul(x.new_tensor(B), x, x, value=3 * A)
        slope: Tensor = torch.ops.aten.sigmoid_backward(inner.mul_(x), s)  # x u'(x) s (1 - s)
        return slope.add_(s).mul_(grads[0])


@Op
def softcap(x: Tensor, cap: float) -> Tensor:
    """cap tanh(x / cap): about x where that is small, never beyond `cap` (Bello et al. 2017; Gemma 2)."""
    return torch.tanh(x / cap) * cap


def _caps(x: Tensor, cap: float) -> bool:
    return reads(x) and x.is_contiguous() and x.dtype == torch.float32 and pointwise.kernel() is not None


@softcap.path("native", when=_caps)
def _softcap_native(x: Tensor, cap: float) -> Tensor:
    """The kernel in C."""
    return pointwise.softcap(x, cap)


@Op
def gated(name: str, gate: Tensor, up: Tensor) -> Tensor:
    """`activation(name, gate) * up` (Dauphin et al. 2017; Shazeer 2020)."""
    return activation(name, gate) * up


_CODES = {"silu": 0, "gelu_tanh": 1}  # as in ops/cpu/training.c


def _kernel() -> native.Kernel | None:
    return native.kernel("training", "genus_gate", "nppnnpn")


def _backward_kernel() -> native.Kernel | None:
    return native.kernel("training", "genus_gate_backward", "npppnnppn")


def _gate(name: str, x: Tensor, up: Tensor | None) -> Tensor:
    y = torch.empty_like(x)
    function = _kernel()
    assert function is not None
    function(
        _CODES[name],
        x.data_ptr(),
        None if up is None else up.data_ptr(),
        x.numel(),
        x.dtype == torch.bfloat16,
        y.data_ptr(),
        torch.get_num_threads(),
        held=(x, up, y),
    )
    return y


class _Gate(torch.autograd.Function):
    """The kernels in C. Keeps its inputs; what is between them is computed again."""

    @staticmethod
    def forward(ctx: Any, name: str, x: Tensor, up: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, up)
        ctx.name = name
        return _gate(name, x, up)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor | None]:
        x, up = ctx.saved_tensors
        g, d_x, d_up = grads[0].contiguous(), torch.empty_like(x), None if up is None else torch.empty_like(up)
        function = _backward_kernel()
        assert function is not None
        function(
            _CODES[ctx.name],
            g.data_ptr(),
            x.data_ptr(),
            None if up is None else up.data_ptr(),
            x.numel(),
            x.dtype == torch.bfloat16,
            d_x.data_ptr(),
            None if d_up is None else d_up.data_ptr(),
            torch.get_num_threads(),
            held=(g, x, up, d_x, d_up),
        )
        return None, d_x, d_up


def _dense(*xs: Tensor) -> bool:
    return all(computes(x) and x.is_contiguous() for x in xs) and _backward_kernel() is not None


@silu.path("native", when=lambda x: _dense(x))
def _silu_native(x: Tensor) -> Tensor:
    """The kernels in C."""
    return _gate("silu", x, None) if reads(x) else _Gate.apply("silu", x, None)  # type: ignore[no-any-return]


@gelu.path("native", when=lambda x: reads(x) and x.is_contiguous() and pointwise.kernel() is not None)
def _gelu_native(x: Tensor) -> Tensor:
    """The kernel in C."""
    return pointwise.run(pointwise.GELU, x)


@gelu_tanh.path("native", when=lambda x: _dense(x))
def _gelu_tanh_native(x: Tensor) -> Tensor:
    """The kernels in C."""
    return _gate("gelu_tanh", x, None) if reads(x) else _Gate.apply("gelu_tanh", x, None)  # type: ignore[no-any-return]


@gated.path(
    "native",
    when=lambda name, gate, up: name in _CODES and gate.shape == up.shape and gate.dtype == up.dtype and _dense(gate, up),
)
def _gated_native(name: str, gate: Tensor, up: Tensor) -> Tensor:
    """The kernels in C: one pass over the memory instead of two, and two instead of four for what comes back."""
    return _gate(name, gate, up) if reads(gate, up) else _Gate.apply(name, gate, up)  # type: ignore[no-any-return]


@gelu_tanh.path("sigmoid", when=lambda x: x.dtype == torch.bfloat16 and computes(x))
def _gelu_tanh_sigmoid(x: Tensor) -> Tensor:
    return _SigmoidGELU.apply(x)  # type: ignore[no-any-return]
