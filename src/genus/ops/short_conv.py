"""Depthwise causal convolution over a few positions.

Shapes: B batch, T time, C channels, W width of the window.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order

MOST = 16  # positions of a window that the kernel takes


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


def _kernels() -> tuple[native.Kernel, native.Kernel] | None:
    forth = native.kernel("short_conv", "genus_short_conv_forward", "ppppp")
    back = native.kernel("short_conv", "genus_short_conv_backward", "pppppppp")
    return None if forth is None or back is None else (forth, back)


def _runs_native(x: Tensor, weight: Tensor, past: Tensor, fresh: Tensor | None = None) -> bool:
    return 1 < weight.shape[1] <= MOST and x.numel() > 0 and native.computes(x) and _kernels() is not None


@short_conv.path("native", when=_runs_native)
def _short_conv_native(x: Tensor, weight: Tensor, past: Tensor, fresh: Tensor | None = None) -> Tensor:
    """The kernel in C."""
    past, taps = past.to(x.dtype), weight.to(x.dtype)
    y: Tensor = _Native.apply(x, taps, past)
    return y if fresh is None else _mended(y, torch.cat([past, x], dim=1), taps, fresh)


class _Shape(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("batch", "time", "channels", "width", "bf16", "threads"))

    @classmethod
    def of(cls, x: Tensor, taps: Tensor) -> _Shape:
        return cls(*x.shape, taps.shape[1], x.dtype == torch.bfloat16, torch.get_num_threads())


class _Native(torch.autograd.Function):
    """x (B, T, C), taps (C, W), past (B, W - 1, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, past: Tensor) -> Tensor:
        found = _kernels()
        assert found is not None
        x, past, weight = x.contiguous(), past.contiguous(), taps.float().T.contiguous()
        ctx.save_for_backward(x, past, weight)
        ctx.dtype = taps.dtype
        shape, tensors = _Shape.of(x, taps), (x, past, weight, y := torch.empty_like(x))
        found[0](ctypes.addressof(shape), *(t.data_ptr() for t in tensors), held=(shape, *tensors))
        return y

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = _kernels()
        assert found is not None
        read = ctx.saved_tensors
        x_grad, past_grad, weight_grad = made = tuple(map(torch.empty_like, read))
        shape, tensors = _Shape.of(read[0], read[2].T), (*read, grads[0].contiguous(), *made)
        found[1](ctypes.addressof(shape), *(t.data_ptr() for t in tensors), held=(shape, *tensors))
        return x_grad, weight_grad.T.to(ctx.dtype), past_grad


@short_conv.path("convolution", when=lambda x, weight, past, fresh=None: fresh is None or x.is_cpu)
def _short_conv_convolution(x: Tensor, weight: Tensor, past: Tensor, fresh: Tensor | None = None) -> Tensor:
    """One depthwise convolution of the library. What it says after a border is mended, which would wait for a device."""
    padded, taps = torch.cat([past.to(x.dtype), x], dim=1), weight.to(x.dtype)
    y: Tensor = _Depthwise.apply(padded, taps)
    return y if fresh is None else _mended(y, padded, taps, fresh)


def _mended(y: Tensor, padded: Tensor, taps: Tensor, fresh: Tensor) -> Tensor:
    """The few positions after a border once more, without what lies before it."""
    width = taps.shape[1]
    since = torch.full_like(fresh, width, dtype=torch.long)  # positions since the last border, at most `width`
    for back in reversed(range(width)):
        since = since.masked_fill(F.pad(fresh, (back, 0))[:, : fresh.shape[1]], back)
    row, time = (since < width - 1).nonzero(as_tuple=True)
    window = padded[row[:, None], time[:, None] + torch.arange(width, device=y.device)]
    reached = torch.arange(width - 1, -1, -1, device=y.device) <= since[row, time][:, None]
    return y.index_put((row, time), torch.einsum("nwc,cw->nc", window * reached[..., None].to(y.dtype), taps))


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution in the layout the kernels are fast in, with a backward pass that keeps to it."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(padded, taps)
        return _convolve(padded, taps)

    @staticmethod
    @first_order
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
    if x.dtype != past.dtype or weight.dtype != torch.float32 or not native.reads(x, weight, past):
        return False
    return x.is_contiguous() and weight.is_contiguous() and past.is_contiguous() and _kernel() is not None


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
