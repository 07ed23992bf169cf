"""Affine map with explicit precision."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops.dispatch import Op


@Op
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` in the precision of `x`: (..., in) and (out, in) give (..., out).

    Master weights may be held in a higher precision than the activations; they are rounded here and nowhere else, and their
    gradient comes back in their own precision.
    """
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class _Affine(torch.autograd.Function):
    """The bias added in place, and its gradient as a matrix product.

    torch copies the bias to every row before the product and sums its gradient element by element: 8 % of the layer at width 384.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        low = weight.to(x.dtype)
        ctx.save_for_backward(x, low)
        ctx.dtypes = weight.dtype, bias.dtype
        return F.linear(x, low).add_(bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, low = ctx.saved_tensors
        g = grads[0].reshape(-1, low.shape[0])
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        dx = (g @ low).view(x.shape) if needs_x else None
        dw = (g.T @ x.reshape(-1, low.shape[1])).to(ctx.dtypes[0]) if needs_weight else None
        db = (g.new_ones(1, len(g)) @ g)[0].to(ctx.dtypes[1]) if needs_bias else None
        return dx, dw, db


@linear.path(
    "affine",
    when=lambda x, weight, bias=None: (
        bias is not None and x.device.type == "cpu" and x.dtype == torch.bfloat16 and torch.is_grad_enabled()
    ),
)
def _linear_affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _Affine.apply(x, weight, bias)  # type: ignore[no-any-return]
