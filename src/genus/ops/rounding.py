"""Rounding of matrices to small integers with scales, after training.

Scales are numbers that bfloat16 holds exactly, so that every way of storing and multiplying them means the same matrix.

Shapes: N outputs, K inputs, G groups of inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 1024  # rounded at once: bounds the memory that is needed beside the result
SHARES = (-9.2, -8.6, -8.0, -7.4, -6.8)  # the largest weight of a group in steps; see `to_int4`


@torch.no_grad()
def to_int8(weight_NK: Tensor) -> tuple[Tensor, Tensor]:
    """codes (N, K) int8 from -127 to 127, scales (N,) float32: every row is its codes times its scale.

    The largest weight of a row becomes 127; nothing is clipped.
    """
    most_N = weight_NK.abs().amax(1).float()
    scale_N = (most_N / 127 * (1 + 2**-8)).bfloat16().float()  # upwards, or the largest would not fit
    scale_N = torch.where(scale_N > 0, scale_N, 1.0)
    parts = [
        (part.float() / scale[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        for part, scale in zip(weight_NK.split(ROWS), scale_N.split(ROWS))
    ]
    return torch.cat(parts), scale_N


@torch.no_grad()
def to_int4(weight_NK: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """codes (N, G * group) uint8 from 0 to 15, scales (N, G) bfloat16: a weight is (code - 8) times its group's scale.

    The last group is filled up with zeros. A scale may be negative: the code of -8, which has no counterpart, then serves the
    largest weight, whatever its sign. Of several scales around it the one with the least squared error is taken, and moved to
    where it is least for the codes that it leads to.
    """
    parts = [_to_int4(F.pad(part.float(), (0, -part.shape[1] % group)), group) for part in weight_NK.split(ROWS)]
    codes, scales = zip(*parts)
    return torch.cat(codes), torch.cat(scales)


def _to_int4(weight_NK: Tensor, group: int) -> tuple[Tensor, Tensor]:
    w_NGI = weight_NK.unflatten(1, (-1, group))
    most_NG1 = w_NGI.gather(2, w_NGI.abs().argmax(2, keepdim=True))
    best_NG1, scale_NG1 = torch.full_like(most_NG1, -1.0), torch.ones_like(most_NG1)
    for share in SHARES:
        codes = (w_NGI / (most_NG1 / share)).nan_to_num_().round_().clamp_(-8, 7)
        cross, square = (w_NGI * codes).sum(2, keepdim=True), codes.square().sum(2, keepdim=True)
        gain = (cross.square() / square).nan_to_num_()  # what the squared error falls by, with the scale cross / square
        better = gain > best_NG1
        best_NG1 = torch.where(better, gain, best_NG1)
        scale_NG1 = torch.where(better & (square > 0), cross / square, scale_NG1)
    scale_NG1 = scale_NG1.bfloat16()
    scale_NG1 = torch.where(scale_NG1 != 0, scale_NG1, torch.ones_like(scale_NG1))
    codes = (w_NGI / scale_NG1.float()).round_().clamp_(-8, 7) + 8
    return codes.to(torch.uint8).flatten(1), scale_NG1[..., 0]
