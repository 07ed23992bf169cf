"""Inverses of small triangular systems: what a chunk of the delta rule writes depends on what it has written before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genus.ops import gpu
from genus.ops.dispatch import Op
from genus.ops.first_order import first_order


@Op
def unit_lower_inverse(a: Tensor) -> Tensor:
    """Inverse of `1 + strictly lower part of a`, a (..., C, C).

    By substitution. Doubling powers of the system would be faster still on paper, but cancels catastrophically once keys repeat.
    """
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a)
    return torch.linalg.solve_triangular(a, one, upper=False, unitriangular=True)


class _Inverse(torch.autograd.Function):
    """Its backward pass is two products."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, kernel: bool) -> Tensor:
        if kernel:
            from genus.ops.gpu import systems

            inverse = systems.unit_lower_inverse(a)
        else:
            inverse = unit_lower_inverse.reference(a)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (inverse,) = ctx.saved_tensors
        return -(inverse.mT @ grads[0] @ inverse.mT).tril(-1), None


def _takes(a: Tensor) -> bool:
    if not a.is_cuda or a.dtype != torch.float32 or not gpu.computes(a):
        return False
    from genus.ops.gpu.systems import MOST

    return a.shape[-1] <= MOST


@unit_lower_inverse.path("triton", when=_takes)
def _unit_lower_inverse_triton(a: Tensor) -> Tensor:
    return _Inverse.apply(a, True)  # type: ignore[no-any-return]


@unit_lower_inverse.path("products", when=lambda a: True)
def _unit_lower_inverse_products(a: Tensor) -> Tensor:
    return _Inverse.apply(a, False)  # type: ignore[no-any-return]
