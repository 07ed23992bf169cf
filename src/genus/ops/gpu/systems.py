"""The inverses of many small triangular matrices, each by forward substitution in the registers of one program."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST = 128  # rows of a matrix that find room


@triton.jit
def _invert(a: tl.tensor, inverse: tl.tensor, size: tl.tensor, SIZE: tl.constexpr) -> None:
    """Row i of the inverse is `e_i - sum over j < i of a_ij row_j`."""
    begin = tl.program_id(0).to(tl.int64) * size * size
    place = tl.arange(0, SIZE)
    x = tl.where(place[:, None] == place[None, :], 1.0, 0.0)
    for i in range(1, size):
        row = tl.load(a + begin + i * size + place, mask=place < i, other=0.0)
        x -= tl.where(place[:, None] == i, tl.sum(row[:, None] * x, axis=0)[None, :], 0.0)
    there = (place[:, None] < size) & (place[None, :] < size)
    tl.store(inverse + begin + place[:, None] * size + place[None, :], x, mask=there)


@torch.library.custom_op("genus::unit_lower_inverse", mutates_args=())
def unit_lower_inverse(a: Tensor) -> Tensor:
    """Inverse of `1 + strictly lower part of a`, a (..., size, size) float32."""
    a = a.contiguous()
    inverse = torch.empty_like(a)
    size = a.shape[-1]
    block = max(16, triton.next_power_of_2(size))
    with torch.cuda.device_of(a):
        _invert[(a.numel() // size**2,)](a, inverse, size, SIZE=block, num_warps=4 if block <= 64 else 8)
    return inverse


@unit_lower_inverse.register_fake
def _(a: Tensor) -> Tensor:
    return a.new_empty(a.shape)
