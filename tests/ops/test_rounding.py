"""Rounding of matrices to small integers: what comes back, and how far it is off."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genus.ops.rounding import to_int4, to_int8


def _int4(codes: Tensor, scales: Tensor, inputs: int) -> Tensor:
    return ((codes.float() - 8).unflatten(1, (scales.shape[1], -1)) * scales.float()[..., None]).flatten(1)[:, :inputs]


def _error(weight: Tensor, back: Tensor) -> float:
    return float((weight - back).norm() / weight.norm())


def with_outliers(weight: Tensor) -> Tensor:
    """One weight in 500 fifteen times as large, as language models have them."""
    weight = weight.clone()
    weight.view(-1)[::500] *= 15
    return weight


def test_int8_is_within_half_a_step_of_every_weight() -> None:
    for weight in (torch.randn(70, 200), with_outliers(torch.randn(70, 200)), torch.randn(3, 5).bfloat16(), torch.randn(2000, 8)):
        codes, scales = to_int8(weight)
        assert codes.dtype == torch.int8 and int(codes.min()) >= -127
        assert torch.equal(scales, scales.bfloat16().float())
        assert bool(((codes.float() * scales[:, None] - weight.float()).abs() <= 0.505 * scales[:, None]).all())
        assert bool((codes.abs().amax(1) >= 125).all())  # the range is used


def test_int8_error() -> None:
    weight = torch.randn(64, 768)
    codes, scales = to_int8(weight)
    assert _error(weight, codes * scales[:, None]) < 0.009
    outliers = with_outliers(weight)
    codes, scales = to_int8(outliers)
    assert _error(outliers, codes * scales[:, None]) < 0.07


@pytest.mark.parametrize(("group", "limit"), [(32, 0.084), (64, 0.092), (128, 0.101)])
def test_int4_error(group: int, limit: float) -> None:
    """Of random weights, against the common rule of a step of a seventh of the largest; outliers harm their own group only."""
    weight = torch.randn(128, 768)
    codes, scales = to_int4(weight, group)
    assert codes.dtype == torch.uint8 and int(codes.max()) <= 15 and scales.dtype == torch.bfloat16
    error = _error(weight, _int4(codes, scales, 768))
    step = weight.unflatten(1, (-1, group)).abs().amax(2, keepdim=True) / 7
    plain = ((weight.unflatten(1, (-1, group)) / step).round() * step).flatten(1)
    assert error < limit and error < 0.9 * _error(weight, plain)
    far = with_outliers(weight)
    codes, scales = to_int4(far, group)
    back = _int4(codes, scales, 768)
    untouched = (far.unflatten(1, (-1, group)).abs().amax(2) < 6).repeat_interleave(group, 1)
    assert _error(far[untouched], back[untouched]) < limit


def test_what_four_bits_hold_exactly_comes_back_exactly() -> None:
    codes = torch.randint(-8, 8, (40, 64))
    codes[:, ::32] = -8  # the largest in each group, on the side that has no counterpart
    for scale in (0.5, -0.25, 3.0):
        weight = codes * scale
        assert torch.equal(_int4(*to_int4(weight, 32), 64), weight)


def test_rounding_twice_changes_nothing() -> None:
    weight = torch.randn(20, 96)
    codes, scales = to_int8(weight)
    again = to_int8(codes * scales[:, None])
    assert _error(codes * scales[:, None], again[0] * again[1][:, None]) < 0.008
    back = _int4(*to_int4(weight, 32), 96)
    assert _error(back, _int4(*to_int4(back, 32), 96)) < 0.03


def test_zeros_and_odd_sizes() -> None:
    weight = torch.zeros(3, 40)
    weight[1, 35] = -2.0
    codes, scales = to_int8(weight)
    torch.testing.assert_close(codes * scales[:, None], weight, rtol=0.01, atol=0)
    codes4, scales4 = to_int4(weight, 32)
    assert codes4.shape == (3, 64) and scales4.shape == (3, 2)
    assert torch.equal(_int4(codes4, scales4, 40), weight)
    assert torch.equal(codes4[:, 40:], torch.full((3, 24), 8, dtype=torch.uint8))
