"""The kernels in C for one position of what has a state of constant size: each computes what its reference says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native
from genus.ops.fast_memory import empty_memory
from genus.ops.fast_weights import fast_weights
from genus.ops.features import elu_plus_one, unit_length
from genus.ops.gates import fade, strength
from genus.ops.linear import linear
from genus.ops.packed import pack
from genus.ops.recurrent import GATES, recurrent
from genus.ops.short_conv import short_conv_step

pytestmark = pytest.mark.skipif(native.library("steps") is None, reason="no kernels in C here")
DTYPES = [torch.float32, torch.bfloat16]
CLOSE: dict[torch.dtype, dict[str, Any]] = {
    torch.float32: {"atol": 2e-5, "rtol": 2e-5},
    torch.bfloat16: {"atol": 2e-2, "rtol": 2e-2},
}


def check(op: Any, *arguments: Any, **options: Any) -> Any:
    """The native path is taken, and gives what the reference gives; what is read stays as it was."""
    before = [a.clone() for a in arguments if isinstance(a, Tensor)]
    with torch.no_grad():
        assert op.chosen(*arguments, **options) == "native"
        found = op(*arguments, **options)
        expected = op.reference(*arguments, **options)
    for a, b in zip(_flat(found), _flat(expected), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, **CLOSE[arguments[0].dtype])
    assert all(torch.equal(a, b) for a, b in zip(before, (a for a in arguments if isinstance(a, Tensor)), strict=True))
    return found


def _flat(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [t for part in result if part is not None for t in _flat(part)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalise", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("decay", [False, True], ids=["", "decay"])
@pytest.mark.parametrize("delta", [False, True], ids=["sum", "delta"])
@pytest.mark.parametrize(("features", "values"), [(5, 3), (48, 48), (33, 130), (64, 64)])
def test_fast_weights(features: int, values: int, delta: bool, decay: bool, normalise: bool, dtype: torch.dtype) -> None:
    rows, heads = 2, 3
    whole = torch.randn(rows, 1, heads, 2 * features + values).transpose(1, 2)  # heads of one product lie side by side
    q, k, v = whole.split([features, features, values], dim=-1)
    q, k = (F.normalize(x.abs() + 0.1, dim=-1) for x in (q, k)) if normalise else (q, F.normalize(k, dim=-1))
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    log_decay = -torch.rand(rows, 1, heads).mT if decay else None
    beta = torch.rand(rows, 1, heads).mT * 1.8 if delta else None
    total = torch.rand(rows, heads, features) if normalise else None
    memory = torch.randn(rows, heads, features, values), total
    _, (matrix, _) = check(fast_weights, q, k, v, log_decay, beta, memory, normalise=normalise)
    torch.testing.assert_close(matrix, fast_weights.reference(q, k, v, log_decay, beta, memory)[1][0], atol=2e-5, rtol=2e-5)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    q, k, v, beta = torch.randn(3, 2, 1, 20), torch.randn(3, 2, 1, 20), torch.randn(3, 2, 1, 70), torch.rand(3, 2, 1)
    memory = torch.randn(3, 2, 20, 70), None
    y, (matrix, _) = fast_weights(q, k, v, None, beta, memory)
    for row in range(3):
        one = slice(row, row + 1)
        alone, (its, _) = fast_weights(q[one], k[one], v[one], None, beta[one], (memory[0][one], None))
        assert torch.equal(alone, y[one]) and torch.equal(its, matrix[one])


def test_what_the_kernel_does_not_do_is_left_to_others() -> None:
    q, k, v = torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4)
    memory = empty_memory(q, v, False)
    assert fast_weights.chosen(q, k, v, memory=memory) == "native"
    assert fast_weights.chosen(q, k, v, memory=memory, fresh=torch.ones(1, 1, dtype=torch.bool)) == "reference"
    assert fast_weights.chosen(q, k, v, memory=memory, pad=torch.ones(1, 1, dtype=torch.bool)) == "reference"
    assert fast_weights.chosen(q.requires_grad_(), k, v, memory=memory) == "reference"
    assert fast_weights.chosen(*(x.detach().double() for x in (q, k, v)), memory=memory) == "reference"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [3, 16, 50])
def test_features(size: int, dtype: torch.dtype) -> None:
    x = (3 * torch.randn(2, 1, 4, 2 * size)).to(dtype)[..., size:].transpose(1, 2)
    check(elu_plus_one, x)
    check(unit_length, x)
    assert elu_plus_one(torch.full((1, 1, 1, 1), float("nan"))).isnan()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gates(dtype: torch.dtype) -> None:
    x = (5 * torch.randn(3, 1, 4)).to(dtype)
    x[0, 0] = torch.tensor([-1e4, 1e4, 0.0, -50.0])
    check(strength, x, 2.0)
    check(fade, x, torch.randn(4), torch.randn(4))
    nothing = torch.full((1, 1, 1), float("nan"))
    assert strength(nothing, 1.0).isnan() and fade(nothing, torch.zeros(1), torch.zeros(1)).isnan()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_short_convolution(width: int, dtype: torch.dtype) -> None:
    x, past = torch.randn(3, 1, 37).to(dtype), torch.randn(3, width - 1, 37).to(dtype)
    check(short_conv_step, x, torch.randn(37, width), past)


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_of_a_few_outputs(dtype: torch.dtype, stored: torch.dtype) -> None:
    x, weight = torch.randn(2, 1, 45).to(dtype), torch.randn(6, 45).to(stored)
    with torch.no_grad():
        assert linear.chosen(x, weight) == "dots"
        torch.testing.assert_close(linear(x, weight), F.linear(x.float(), weight.float()).to(dtype), **CLOSE[dtype])
        assert linear.chosen(x, torch.randn(16, 45)) != "dots"
        assert linear.chosen(torch.randn(33, 45), weight) != "dots"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_cells(cell: str, dtype: torch.dtype) -> None:
    rows, hidden = GATES[cell] * 40, 40
    weights = [pack(torch.randn(rows, size) * 0.3, "bf16") for size in (24, hidden)]
    biases = [torch.randn(rows), torch.randn(rows)]
    state = [torch.randn(3, hidden).to(dtype) for _ in range(2 if cell == "LSTM" else 1)]
    x = torch.randn(3, 5, 24).to(dtype)
    with torch.no_grad():
        assert recurrent.chosen(cell, x, [*weights, *biases], state) == "native"
        found = recurrent(cell, x, [*weights, *biases], state)
        expected = recurrent.reference(cell, x, [*weights, *biases], state)
        nothing = recurrent(cell, x * float("nan"), [*weights, *biases], state)[0]
    for a, b in zip(_flat(found), _flat(expected), strict=True):
        torch.testing.assert_close(a, b, **(CLOSE[dtype] if dtype == torch.float32 else {"atol": 4e-2, "rtol": 4e-2}))
    assert nothing.isnan().all()
