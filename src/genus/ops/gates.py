"""A number for each head, from what a linear layer makes of the input: how strongly a memory is written, how fast it fades.

Shapes: B batch, T time, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native
from genus.ops.dispatch import Op
from genus.ops.native import number


@Op
def strength(x: Tensor, reach: float) -> Tensor:
    """`reach sigmoid(x)` in float32 or better, of x of any shape: the beta of the delta rule."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).sigmoid() * reach


@Op
def fade(x: Tensor, rate: Tensor, shift: Tensor) -> Tensor:
    """`-exp(rate) softplus(x + shift)` in float32 or better: the logarithm of a decay (Dao & Gu 2024).

    Args:
        x: (B, T, H). rate, shift: (H,).
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return -(rate.to(wide.dtype).exp() * F.softplus(wide + shift.to(wide.dtype)))


def _strength() -> native.Kernel | None:
    return native.kernel("steps", "genus_strength", "pnnpp")


def _fade() -> native.Kernel | None:
    return native.kernel("steps", "genus_fade", "pnnnppp")


def _few(x: Tensor) -> bool:
    return x.dim() == 3 and x.shape[1] == 1 and x.is_contiguous() and native.reads(x)


@strength.path("native", when=lambda x, reach: _few(x) and _strength() is not None)
def _strength_native(x: Tensor, reach: float) -> Tensor:
    """The kernel in C: in a step of decoding the way through torch takes longer than the work."""
    y = torch.empty_like(x, dtype=torch.float32)
    function = _strength()
    assert function is not None
    function(x.data_ptr(), x.dtype == torch.bfloat16, x.numel(), number(reach), y.data_ptr(), held=(x, y))
    return y


def _fits(x: Tensor, rate: Tensor, shift: Tensor) -> bool:
    if not (rate.dtype == shift.dtype == torch.float32 and rate.shape == shift.shape == x.shape[2:]):
        return False
    return _few(x) and rate.is_contiguous() and shift.is_contiguous() and native.reads(x, rate, shift) and _fade() is not None


@fade.path("native", when=_fits)
def _fade_native(x: Tensor, rate: Tensor, shift: Tensor) -> Tensor:
    """The kernel in C."""
    y = torch.empty_like(x, dtype=torch.float32)
    function, bf16 = _fade(), x.dtype == torch.bfloat16
    assert function is not None
    read = rate.data_ptr(), shift.data_ptr()
    function(x.data_ptr(), bf16, len(x), x.shape[2], *read, y.data_ptr(), held=(x, rate, shift, y))
    return y
