"""Cross-entropy of a linear read-out that never holds (positions x vocabulary)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import activation, gpu, native, products
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order
from genus.ops.linear import linear
from genus.ops.native import computes

IGNORE = -100
SYMBOLS = 2048  # over which a product is summed at a time, so that they stay in the cache
CHUNK_BYTES = 64 * 2**20  # one block of logits: the larger, the fewer passes over the weight's gradient
GPU_CHUNK_BYTES = 256 * 2**20  # the same where memory is fast and products want many rows

SOUND = torch.__version__ >= "2.13"  # compiled by torch 2.11, gradients that a forward pass writes in place come out as zeros


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    return linear(hidden * scale if scale != 1.0 else hidden, weight, bias)


@Op
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Sum over positions of -log softmax(cap(scale * hidden @ weight.T + bias))[target], in nats, as a float32 scalar.

    Args:
        hidden: (positions, dim). weight: (vocabulary, dim). targets: (positions,), -100 = ignored. bias: (vocabulary,).
        smoothing: share of the target's probability that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7).
    """
    logits = _logits(hidden, weight, bias, scale).float()
    logits = logits if softcap is None else activation.softcap.reference(logits, softcap)
    return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)


class _Chunked(torch.autograd.Function):
    """Loss and gradients chunk by chunk in the forward pass: the logits of a chunk are used and dropped.

    The loss is a sum, so the backward pass only scales what the forward pass has computed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        scale: float,
        softcap: float | None,
        smoothing: float,
        gradients: bool,
    ) -> Tensor:
        low = weight.to(hidden.dtype)
        needs = gradients and any(ctx.needs_input_grad)
        rows = max(16, CHUNK_BYTES // (4 * weight.shape[0]))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if needs else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if needs else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if needs and bias is not None else None
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            y, h = targets[part], hidden[part]
            raw = _logits(h, low, bias, scale).float()
            logits = raw if softcap is None else activation.softcap(raw, softcap)
            keep = y != IGNORE
            index = y.masked_fill(~keep, 0)[:, None]
            p = logits.softmax(-1)
            norm = logits.amax(-1, keepdim=True) - p.amax(-1, keepdim=True).log()  # logsumexp from two cheap passes
            surprise = norm - logits.gather(1, index)
            lost = surprise if not smoothing else torch.lerp(surprise, norm - logits.mean(-1, keepdim=True), smoothing)
            total += (lost[:, 0] * keep).sum()
            if d_hidden is None or d_weight is None:
                continue
            slope = None if softcap is None else 1 - (logits / softcap).square()
            p.scatter_(1, index, torch.expm1(-surprise) + smoothing)  # p - 1 at the target, exact where p is near 1
            if smoothing:
                p.sub_(smoothing / weight.shape[0])
            p.mul_(keep[:, None])
            if slope is not None:
                p.mul_(slope)
            if d_bias is not None:
                d_bias += p.sum(0)
            g = p.to(hidden.dtype) if scale == 1.0 else (p * scale).to(hidden.dtype)
            torch.matmul(g, low, out=d_hidden[part])
            d_weight += g.mT @ h
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.weight_dtype, ctx.bias_dtype = (
            weight.dtype,
            None if bias is None else bias.dtype,
        )
        return total

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        g = grads[0]
        bias_grad = None if d_bias is None else (d_bias * g).to(ctx.bias_dtype)
        options = [None] * (len(ctx.needs_input_grad) - 4)
        return d_hidden * g.to(d_hidden.dtype), (d_weight * g).to(ctx.weight_dtype), None, bias_grad, *options


def _kept() -> bool:
    """Whether gradients that are written in place in a forward pass stay."""
    return SOUND or not torch.compiler.is_compiling()


def _in_order(hidden: Tensor, weight: Tensor, targets: Tensor) -> bool:
    """Whether there is a plain matrix, and one target for each position; the definition tells what is wrong otherwise."""
    return isinstance(weight, Tensor) and targets.dtype == torch.int64 and targets.shape == hidden.shape[:1]


_Options = ctypes.c_float * 3


def _kernel() -> native.Kernel | None:
    return native.kernel("loss", "genus_loss", "ppnnnpnpn")


def _losses(logits: Tensor, targets: Tensor, factor: float, softcap: float | None, smoothing: float, back: bool) -> Tensor:
    """Sum of the losses of logits (positions, vocabulary); where `back`, the logits become `factor` times their gradient."""
    found = torch.empty(len(logits), 4)
    options = _Options(softcap or 0.0, smoothing, factor)
    function = _kernel()
    assert function is not None
    function(
        logits.data_ptr(),
        targets.data_ptr(),
        *logits.shape,
        logits.dtype == torch.bfloat16,
        options,
        back,
        found.data_ptr(),
        torch.get_num_threads(),
        held=(logits, targets, found),
    )
    most, total, own, mean = found.unbind(1)
    lost = total.log_().add_(most).sub_(own)
    return (torch.lerp(lost, lost + own - mean, smoothing) if smoothing else lost).sum()


class _Torch:
    """The three products of a read-out (vocabulary, dim) by torch; what is between them by the kernel in C."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.weight = weight.to(dtype)

    def rows(self, size: int) -> int:
        """How many positions at a time, at `size` bytes a logit."""
        return max(16, CHUNK_BYTES // (size * len(self.weight)))

    def check(self, targets: Tensor) -> None:
        wrong = targets[(targets != IGNORE) & ((targets < 0) | (targets >= len(self.weight)))]
        if len(wrong):
            raise IndexError(f"target {int(wrong[0])} is out of bounds: the vocabulary has {len(self.weight)} symbols")

    def logits(self, hidden: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        return _logits(hidden, self.weight, bias, scale).contiguous()

    losses = staticmethod(_losses)

    def to_hidden(self, grads: Tensor, out: Tensor) -> None:
        torch.matmul(grads, self.weight, out=out)

    def to_weight(self, grads: Tensor, hidden: Tensor, total: Tensor | None, of_bias: Tensor | None) -> Tensor:
        if of_bias is not None:
            products.add_rows(of_bias, grads)
        part = grads.mT @ hidden
        return part.float() if total is None else total.add_(part)


class _OnGPU(_Torch):
    """The same beside a kernel in Triton. Nothing waits for the GPU."""

    def rows(self, size: int) -> int:
        return max(16, GPU_CHUNK_BYTES // (size * len(self.weight)))

    def check(self, targets: Tensor) -> None:
        """Told by the device, when it comes to it, as torch's own cross-entropy does."""
        known = (targets == IGNORE) | ((targets >= 0) & (targets < len(self.weight)))
        torch._assert_async(known.all(), f"a target is out of bounds: the vocabulary has {len(self.weight)} symbols")

    @staticmethod
    def losses(logits: Tensor, targets: Tensor, factor: float, softcap: float | None, smoothing: float, back: bool) -> Tensor:
        from genus.ops.gpu.loss import losses

        return losses(logits, targets, IGNORE, factor, softcap, smoothing, back).sum()


class _Products(_Torch):
    """The products by the kernels in C, bf16 beside a weight in float32."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.weight = weight

    def logits(self, hidden: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        h = products.rows_of(hidden * scale if scale != 1.0 else hidden)
        y = h.new_empty(len(h), len(self.weight))
        return products.product(y, [h], [self.weight], True, None if bias is None else bias.float().contiguous())

    def to_hidden(self, grads: Tensor, out: Tensor) -> None:
        total = torch.zeros(out.shape)
        for part in (slice(start, start + SYMBOLS) for start in range(0, grads.shape[1], SYMBOLS)):
            products.product(total, [grads[:, part]], [self.weight[part]], False, add=True)
        out.copy_(total)

    def to_weight(self, grads: Tensor, hidden: Tensor, total: Tensor | None, of_bias: Tensor | None) -> Tensor:
        y = torch.empty_like(self.weight) if total is None else total
        return products.product_back(y, grads, products.rows_of(hidden), total is not None, of_bias)


class _Native(torch.autograd.Function):
    """As `_Chunked`; what is between the three products is one pass of a kernel over the logits, which it turns into their
    gradient in their place and precision."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        scale: float,
        softcap: float | None,
        smoothing: float,
        gradients: bool,
        by: type[_Torch],
    ) -> Tensor:
        readout, targets = by(weight, hidden.dtype), targets.contiguous()
        readout.check(targets)
        needs = gradients and any(ctx.needs_input_grad)
        rows = readout.rows(hidden.element_size())
        total = torch.zeros((), device=hidden.device)
        d_hidden = torch.empty_like(hidden) if needs else None
        d_bias = torch.zeros(len(weight), device=hidden.device) if needs and bias is not None else None
        d_weight = None
        for start in range(0, len(targets), rows):
            count = min(rows, len(targets) - start)
            h, y = hidden.narrow(0, start, count), targets.narrow(0, start, count)
            logits = readout.logits(h, bias, scale)
            total += readout.losses(logits, y, scale, softcap, smoothing, needs)
            if d_hidden is None:
                continue
            readout.to_hidden(logits, d_hidden.narrow(0, start, count))
            d_weight = readout.to_weight(logits, h, d_weight, d_bias)
        if d_bias is not None:
            d_bias.div_(scale)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.weight_dtype, ctx.bias_dtype = weight.dtype, None if bias is None else bias.dtype
        return total

    backward = _Chunked.backward


def _fits_native(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    smoothing: float = 0.0,
) -> bool:
    if not _in_order(hidden, weight, targets) or len(hidden) == 0 or scale == 0.0:
        return False
    return computes(hidden) and _kernel() is not None


@linear_cross_entropy.path("native", when=_fits_native)
def _linear_cross_entropy_native(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    by = _Products if products.fits(hidden, (weight,), (bias,)) else _Torch
    return _Native.apply(hidden, weight, targets, bias, scale, softcap, smoothing, torch.is_grad_enabled(), by)  # type: ignore[no-any-return]


def _fits_gpu(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    *_: Any,
    **__: Any,
) -> bool:
    if not hidden.is_cuda or not _in_order(hidden, weight, targets) or len(hidden) == 0 or scale == 0.0:
        return False
    return _kept() and gpu.computes(hidden)


@linear_cross_entropy.path("triton", when=_fits_gpu)
def _linear_cross_entropy_triton(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    return _Native.apply(hidden, weight, targets, bias, scale, softcap, smoothing, torch.is_grad_enabled(), _OnGPU)  # type: ignore[no-any-return]


@linear_cross_entropy.path(
    "chunked",
    when=lambda hidden, weight, targets, *_, **__: (
        _in_order(hidden, weight, targets) and len(hidden) * weight.shape[0] * 4 > CHUNK_BYTES and _kept()
    ),
)
def _linear_cross_entropy_chunked(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    return _Chunked.apply(hidden, weight, targets, bias, scale, softcap, smoothing, torch.is_grad_enabled())  # type: ignore[no-any-return]
