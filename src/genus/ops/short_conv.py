"""Depthwise causal convolution over a few positions.

Shapes: B batch, T time, C channels, W width of the window.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from genus.ops import native
from genus.ops.dispatch import Op


@Op
def short_conv(x: Tensor, weight: Tensor, past: Tensor, fresh: Tensor | None = None) -> Tensor:
    """`y_t = sum over w of weight[:, w] * x_{t - W + 1 + w}`, each channel by itself.

    Args:
        x: (B, T, C). weight: (C, W). past: (B, W - 1, C), the inputs before x.
        fresh: (B, T) bool: nothing from before this position reaches it or any later one.
    """
    time, width = x.shape[1], weight.shape[1]
    padded, taps = torch.cat([past.to(x.dtype), x], dim=1), weight.to(x.dtype)
    y = x * taps[:, width - 1]
    crossed = torch.zeros_like(x[..., 0], dtype=torch.bool)
    for back in range(1, width):
        if fresh is not None:
            crossed = crossed | F.pad(fresh, (back - 1, 0))[:, :time]
        tap = padded[:, width - 1 - back :][:, :time]
        y = y + tap.masked_fill(crossed[..., None], 0) * taps[:, width - 1 - back]
    return y


@short_conv.path("convolution", when=lambda *_, **__: True)
def _short_conv_convolution(x: Tensor, weight: Tensor, past: Tensor, fresh: Tensor | None = None) -> Tensor:
    """One depthwise convolution; the few positions after a border are computed again without what lies before it."""
    width = weight.shape[1]
    padded, taps = torch.cat([past.to(x.dtype), x], dim=1), weight.to(x.dtype)
    y = _Depthwise.apply(padded, taps)
    if fresh is None or width == 1:
        return y  # type: ignore[no-any-return]
    since = torch.full_like(fresh, width, dtype=torch.long)  # positions since the last border, at most `width`
    for back in reversed(range(width)):
        since = since.masked_fill(F.pad(fresh, (back, 0))[:, : fresh.shape[1]], back)
    row, time = (since < width - 1).nonzero(as_tuple=True)
    window = padded[row[:, None], time[:, None] + torch.arange(width, device=x.device)]
    reached = torch.arange(width - 1, -1, -1, device=x.device) <= since[row, time][:, None]
    return y.index_put((row, time), torch.einsum("nwc,cw->nc", window * reached[..., None].to(x.dtype), taps))  # type: ignore[no-any-return]


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution in the layout the kernels are fast in, with a backward pass that keeps to it."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(padded, taps)
        return _convolve(padded, taps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        padded, taps = ctx.saved_tensors
        grad, width = grads[0], taps.shape[1]
        time = grad.shape[1]
        before = _convolve(F.pad(grad, (0, 0, width - 1, width - 1)), taps.flip(1))
        wide = torch.promote_types(grad.dtype, torch.float32)
        of_taps = [(grad * padded[:, w : w + time]).flatten(0, 1).sum(0, dtype=wide) for w in range(width)]
        return before, torch.stack(of_taps, dim=1).to(taps.dtype)


def _convolve(padded: Tensor, taps: Tensor) -> Tensor:
    """(B, T + W - 1, C) and (C, W) to (B, T, C): an image one pixel high, channels last, so that nothing is transposed."""
    image = padded.mT[:, :, None]
    return F.conv2d(image, taps[:, None, None], groups=len(taps))[:, :, 0].mT


@Op
def short_conv_step(x: Tensor, weight: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """`short_conv` of one position.

    Args:
        x: (B, 1, C). weight: (C, W). past: (B, W - 1, C), which stays as it is.

    Returns:
        y (B, 1, C), and the newest W - 1 inputs.
    """
    return short_conv(x, weight, past), torch.cat([past, x], dim=1)[:, 1:]


def _kernel() -> native.Kernel | None:
    return native.kernel("steps", "genus_short_conv", "pppnnnnpp")


def _fits(x: Tensor, weight: Tensor, past: Tensor) -> bool:
    dense = x.is_contiguous() and weight.is_contiguous() and past.is_contiguous()
    return dense and x.dtype == past.dtype and weight.dtype == torch.float32 and native.reads(x, weight) and _kernel() is not None


@short_conv_step.path("native", when=_fits)
def _short_conv_step_native(x: Tensor, weight: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel in C."""
    y, new = torch.empty_like(x), torch.empty_like(past)
    function = _kernel()
    assert function is not None
    sizes = (len(x), x.shape[2], weight.shape[1])
    read = x.data_ptr(), past.data_ptr(), weight.data_ptr()
    function(*read, x.dtype == torch.bfloat16, *sizes, y.data_ptr(), new.data_ptr(), held=(x, past, weight, y, new))
    return y, new
