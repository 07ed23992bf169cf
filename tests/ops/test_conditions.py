"""What a kernel would get wrong is left to others: arguments that learn, that do not fit together, or that are not dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.ops.cross_entropy import linear_cross_entropy
from genus.ops.decode_attention import Spans, decode_attention
from genus.ops.dispatch import Op
from genus.ops.gates import fade
from genus.ops.linear import linear, linears
from genus.ops.norm import layer_norm, rms_norm
from genus.ops.packed import Tiles, kernel, pack
from genus.ops.recurrent import recurrent
from genus.ops.rotary import rotary
from genus.ops.short_conv import short_conv_step

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no kernels in C here")
SPANS = Spans([[(0, 5)], [(2, 4)]], 5, torch.device("cpu"))


def _cell(bias: Tensor) -> tuple[Any, ...]:
    weights = [pack(torch.randn(12, 8), "bf16"), pack(torch.randn(12, 4), "bf16")]
    return "GRU", torch.randn(2, 3, 8), [*weights, bias, torch.zeros(12)], [torch.randn(2, 4)]


LEARNT: list[tuple[Op[..., Any], tuple[int, ...], Callable[[Tensor], tuple[Any, ...]]]] = [
    (decode_attention, (1, 3, 1, 5), lambda bias: (*(torch.randn(2, 3, n, 8) for n in (1, 5, 5)), SPANS, bias)),
    (linear, (70,), lambda bias: (torch.randn(2, 32), pack(torch.randn(70, 32), "bf16"), bias)),
    (linears, (70,), lambda bias: (torch.randn(2, 32), (pack(torch.randn(70, 32), "bf16"),) * 2, (None, bias))),
    (recurrent, (12,), _cell),
    (short_conv_step, (2, 3, 6), lambda past: (torch.randn(2, 1, 6), torch.randn(6, 4), past)),
    (rotary, (5, 4), lambda cos: (torch.randn(2, 3, 5, 8), cos, cos.detach())),
]


@needs_kernel
@pytest.mark.parametrize(("op", "shape", "make"), LEARNT, ids=[op.name for op, *_ in LEARNT])
def test_what_learns_has_a_gradient(op: Op[..., Any], shape: tuple[int, ...], make: Callable[[Tensor], tuple[Any, ...]]) -> None:
    leaf = torch.randn(shape, requires_grad=True)
    arguments = make(leaf)
    found = []
    for run in (op, op.reference):
        result = run(*arguments)
        y = result if isinstance(result, Tensor) else result[-1] if op is linears else result[0]
        found.append(torch.autograd.grad(y.square().sum(), leaf)[0])
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-2)
    with torch.no_grad():
        assert op.chosen(*arguments) == "native"


@needs_kernel
def test_numbers_that_are_not_side_by_side() -> None:
    x, rate, shift = torch.randn(2, 1, 4), torch.randn(8)[::2], torch.randn(4, 2)[:, 0]
    torch.testing.assert_close(fade(x, rate, shift), fade.reference(x, rate, shift))
    x, weight, bias = torch.randn(2, 32), pack(torch.randn(70, 32), "bf16"), torch.randn(140)[::2]
    torch.testing.assert_close(linear(x, weight, bias), linear.reference(x, weight, bias), atol=1e-3, rtol=1e-3)


def test_one_angle_for_all_positions() -> None:
    x, cos, sin = torch.randn(2, 3, 5, 8), torch.rand(1, 4), torch.rand(1, 4)
    torch.testing.assert_close(rotary(x, cos, sin), rotary.reference(x, cos, sin))


MISFITS: list[tuple[Op[..., Any], Callable[[], tuple[Any, ...]]]] = [
    (linear_cross_entropy, lambda: (torch.randn(4, 8), torch.randn(9, 8), torch.arange(5))),
    (linear_cross_entropy, lambda: (torch.randn(4, 8), torch.randn(9, 8), torch.arange(3))),
    (linear_cross_entropy, lambda: (torch.randn(4, 8), torch.randn(9, 8), torch.arange(4, dtype=torch.int32))),
    (rms_norm, lambda: (torch.randn(4, 8), torch.ones(5), 1e-6)),
    (layer_norm, lambda: (torch.randn(4, 8), torch.ones(8), torch.ones(5), 1e-6)),
    (linear, lambda: (torch.randn(4, 8), torch.randn(3, 6))),
    (linear, lambda: (torch.randn(4, 80), pack(torch.randn(70, 32), "bf16"))),
]


@pytest.mark.parametrize(("op", "make"), MISFITS, ids=[op.name for op, _ in MISFITS])
def test_what_does_not_fit_together_is_an_error(op: Op[..., Any], make: Callable[[], tuple[Any, ...]]) -> None:
    with torch.no_grad(), pytest.raises((ValueError, RuntimeError)):
        op(*make())


@needs_kernel
def test_a_stored_matrix_tells_its_inputs() -> None:
    stored = pack(torch.randn(70, 32), "int8")
    assert isinstance(stored, Tiles)
    with pytest.raises(ValueError, match="40 numbers cannot be multiplied by a matrix of 32 inputs"):
        stored.multiply(torch.randn(2, 40), None)
