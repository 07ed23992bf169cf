"""Affine map with explicit precision."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native, products
from genus.ops.dispatch import Op
from genus.ops.packed import Int8Rows, Packed, Tiles, TorchInt4, multiply_all

LONG = 128  # rows from which a processor with matrix tiles (AMX) multiplies so fast that unpacking the whole matrix is worth it
FEW = 32  # rows up to which torch's packed int8 product is faster than unpacking
THIN = 16  # outputs below which a matrix is not stored in tiles


@Op
def linear(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` in the precision of `x`: (..., in) and (out, in) give (..., out).

    Master weights may be held in a higher precision than the activations; they are rounded here and nowhere else, and their
    gradient comes back in their own precision. A matrix that is stored for decoding (`ops.packed`) has no gradient.
    """
    whole = weight.dense(x.dtype) if isinstance(weight, Packed) else weight.to(x.dtype)
    return F.linear(x, whole, None if bias is None else bias.to(x.dtype))


@cache
def _amx() -> bool:
    return bool(torch.cpu._is_amx_tile_supported())


def _fits_native(x: Tensor, weight: Tensor | Packed, *biases: Tensor | None) -> bool:
    if not isinstance(weight, Tiles) or not native.reads(x, *(bias for bias in biases if bias is not None)):
        return False
    return not _amx() or x.dtype != torch.bfloat16 or x.numel() < LONG * x.shape[-1]


@linear.path("native", when=lambda x, weight, bias=None: _fits_native(x, weight, bias))
def _linear_native(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> Tensor:
    """The kernel in C, which reads every weight once, as it is stored, whatever the number of rows."""
    assert isinstance(weight, Tiles)
    return weight.multiply(x, bias)


def _dots() -> native.Kernel | None:
    return native.kernel("steps", "genus_dots", "pnpnnnnp")


def _thin(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> bool:
    if isinstance(weight, Packed) or bias is not None or len(weight) >= THIN:
        return False
    if not 0 < x.numel() <= FEW * x.shape[-1] or x.shape[-1] != weight.shape[1]:
        return False
    return native.reads(x, weight) and native.reads(weight) and weight.is_contiguous() and _dots() is not None


@linear.path("dots", when=_thin)
def _linear_dots(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> Tensor:
    """The kernel in C for a matrix of a few outputs, such as a gate for each head, in a step of decoding."""
    assert isinstance(weight, Tensor)
    x = x.contiguous()
    y, inputs = x.new_empty(*x.shape[:-1], len(weight)), x.shape[-1]
    function, bf16 = _dots(), torch.bfloat16
    assert function is not None
    sizes = x.numel() // inputs, inputs, len(weight)
    held = (x, weight, y)
    function(x.data_ptr(), x.dtype == bf16, weight.data_ptr(), weight.dtype == bf16, *sizes, y.data_ptr(), held=held)
    return y


@linear.path(
    "int8pack",
    when=lambda x, weight, bias=None: isinstance(weight, Int8Rows) and native.reads(x) and x.numel() <= FEW * x.shape[-1],
)
def _linear_int8pack(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> Tensor:
    """torch's own product with int8, a scale for each output."""
    assert isinstance(weight, Int8Rows)
    return weight.multiply(x, bias)


@linear.path("int4pack", when=lambda x, weight, bias=None: isinstance(weight, TorchInt4) and native.reads(x))
def _linear_int4pack(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> Tensor:
    """torch's own product with int4, a scale for each group of inputs."""
    assert isinstance(weight, TorchInt4)
    return weight.multiply(x, bias)


@linear.path("product", when=lambda x, weight, bias=None: products.fits(x, (weight,), (bias,)))
def _linear_product(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> Tensor:
    """The kernels in C for training."""
    return products.multiply(x, (weight,), (bias,))[0]  # type: ignore[arg-type]


def _trains_bf16(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> bool:
    if bias is None or isinstance(weight, Packed) or not torch.is_grad_enabled():
        return False
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"


@linear.path("add", when=_trains_bf16)
def _linear_add(x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None) -> Tensor:
    """The bias added in place: torch's own way copies it to every row before the product, 8 % of a layer's step on two cores."""
    assert bias is not None and isinstance(weight, Tensor)
    return F.linear(x, weight.to(x.dtype)).add_(bias.to(x.dtype))


@Op
def linears(x: Tensor, weights: tuple[Tensor | Packed, ...], biases: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    """`linear` with several matrices that take the same input."""
    return tuple(linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))


def _all_native(x: Tensor, weights: tuple[Tensor | Packed, ...], biases: tuple[Tensor | None, ...]) -> bool:
    first = weights[0]
    if not isinstance(first, Tiles) or not _fits_native(x, first, *biases):
        return False
    return all(isinstance(w, Tiles) and (w.width, w.format, w.group) == (first.width, first.format, first.group) for w in weights)


@linears.path("native", when=_all_native)
def _linears_native(x: Tensor, weights: tuple[Tensor | Packed, ...], biases: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    """The kernel in C, called once for all."""
    return multiply_all(x, weights, biases)  # type: ignore[arg-type]


@linears.path("product", when=lambda x, weights, biases: products.fits(x, weights, biases))
def _linears_product(x: Tensor, weights: tuple[Tensor | Packed, ...], biases: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    """The kernels in C for training: what comes back to `x` from all matrices is summed before it is rounded."""
    return products.multiply(x, weights, biases)  # type: ignore[arg-type]
