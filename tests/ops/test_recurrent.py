"""Recurrent layers: the fused path, the readable one and PyTorch's own modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genus.ops.recurrent import GATES, LARGE, recurrent
from genus.ops.unrolled import kernels

CELLS = sorted(GATES)
FUSED = sorted(set(GATES) - {"Cho"})  # those that the library has


def _inputs(cell: str, batch: int, time: int, dim: int, hidden: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    rows = GATES[cell] * hidden
    x = torch.randn(batch, time, dim).requires_grad_()
    weights = [torch.randn(s).mul(0.5).requires_grad_() for s in ((rows, dim), (rows, hidden), (rows,), (rows,))]
    state = [torch.randn(batch, hidden).requires_grad_() for _ in range(2 if cell == "LSTM" else 1)]
    return x, weights, state


def _run(path: Any, cell: str, x: Tensor, weights: list[Tensor], state: list[Tensor]) -> list[Tensor]:
    y, end = path(cell, x, weights, state)
    torch.manual_seed(1)
    loss = sum((o.float() * torch.randn(o.shape)).sum() for o in (y, *end))
    return [y, *end, *torch.autograd.grad(loss, [x, *weights, *state])]


@pytest.mark.parametrize("cell", FUSED)
@pytest.mark.parametrize(("batch", "time", "dim", "hidden"), [(1, 1, 1, 1), (2, 7, 5, 3), (3, 20, 8, 16)])
def test_paths(cell: str, batch: int, time: int, dim: int, hidden: int) -> None:
    inputs = _inputs(cell, batch, time, dim, hidden)
    expected = _run(recurrent.reference, cell, *inputs)
    for name, (_, path) in recurrent.paths.items():
        if name == "native" or (name == "unrolled" and (cell == "RNN" or kernels(cell) is None)):  # native: no gradients
            continue
        for a, b in zip(_run(path, cell, *inputs), expected, strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("cell", "hidden"), [("LSTM", LARGE), ("GRU", 33)])
def test_learning_in_bf16(cell: str, hidden: int) -> None:
    if kernels(cell) is None:
        pytest.skip("no kernels here")
    torch.manual_seed(0)
    x, weights, state = _inputs(cell, 3, 6, 20, hidden)
    weights = [(w * 0.1).detach().requires_grad_() for w in weights]
    assert recurrent.chosen(cell, x.bfloat16(), weights, state) == "unrolled"
    got = _run(recurrent, cell, x.bfloat16().detach().requires_grad_(), weights, state)
    for a, b in zip(got, _run(recurrent.reference, cell, x, weights, state), strict=True):
        assert (a - b).norm() < 0.02 * b.norm()
    small = _inputs(cell, 3, 6, 20, 8)
    assert (recurrent.chosen(cell, small[0].bfloat16(), *small[1:]) == "unrolled") == (cell == "GRU")
    with torch.no_grad():
        assert recurrent.chosen(cell, x.bfloat16(), weights, state) == "torch"


@pytest.mark.parametrize(("cell", "hidden"), [("LSTM", LARGE), ("GRU", 33)])
def test_what_is_not_a_number_stays_so(cell: str, hidden: int) -> None:
    """Or a loss that has gone wrong looks right."""
    if kernels(cell) is None:
        pytest.skip("no kernels here")
    x, weights, state = _inputs(cell, 2, 3, 4, hidden)
    x = x.detach().bfloat16()
    x[1, 1] = float("nan")
    assert recurrent.chosen(cell, x, weights, state) == "unrolled"
    y, end = recurrent(cell, x, weights, state)
    assert y[1, 1:].isnan().all() and end[0][1].isnan().all()
    assert not y[0].isnan().any() and not y[1, 0].isnan().any()


@pytest.mark.parametrize("cell", FUSED)
def test_against_pytorchs_modules(cell: str) -> None:
    x, weights, state = _inputs(cell, 2, 9, 5, 4)
    module: Any = getattr(nn, cell)(5, 4, batch_first=True)
    with torch.no_grad():
        for p, w in zip(module.parameters(), weights, strict=True):
            p.copy_(w)
    hx = tuple(s[None] for s in state) if cell == "LSTM" else state[0][None]
    y, end = module(x, hx)
    got, last = recurrent.reference(cell, x, weights, state)
    torch.testing.assert_close(got, y)
    for a, b in zip(last, end if cell == "LSTM" else (end,), strict=True):
        torch.testing.assert_close(a, b[0])


def test_the_published_gru() -> None:
    """Cho et al. 2014, eq. 5 to 8: with a reset gate that is open, and only then, the two forms of the GRU are one."""
    x, (w_ih, w_hh, b_ih, b_hh), state = _inputs("Cho", 2, 1, 5, 4)
    y, _ = recurrent("Cho", x, (w_ih, w_hh, b_ih, b_hh), state)
    given, h = x[:, 0] @ w_ih.T + b_ih, state[0]
    r, z = ((given[:, a : a + 4] + h @ w_hh[a : a + 4].T + b_hh[a : a + 4]).sigmoid() for a in (0, 4))
    n = (given[:, 8:] + (r * h) @ w_hh[8:].T + b_hh[8:]).tanh()
    torch.testing.assert_close(y[:, 0], z * h + (1 - z) * n)
    opened = b_ih.detach().clone()
    opened[:4] = 50.0
    weights = (w_ih, w_hh, opened, b_hh)
    torch.testing.assert_close(recurrent("Cho", x, weights, state)[0], recurrent("GRU", x, weights, state)[0])
    assert not torch.allclose(y, recurrent("GRU", x, (w_ih, w_hh, b_ih, b_hh), state)[0], atol=1e-3)


@pytest.mark.parametrize("cell", CELLS)
def test_a_long_run_is_many_short_ones(cell: str) -> None:
    x, weights, state = _inputs(cell, 2, 12, 3, 4)
    whole, end = recurrent(cell, x, weights, state)
    pieces, now = [], tuple(state)
    for part in x.split([1, 5, 6], dim=1):
        y, now = recurrent(cell, part, weights, now)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(now, end)


@pytest.mark.parametrize(("cell", "path"), [*((c, "reference") for c in CELLS), *((c, "torch") for c in FUSED)])
def test_bfloat16_with_float32_weights_and_state(cell: str, path: str) -> None:
    x, weights, state = _inputs(cell, 2, 6, 5, 4)
    run = recurrent.reference if path == "reference" else recurrent.paths[path][1]
    y, _ = run(cell, x.bfloat16(), weights, state)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), recurrent.reference(cell, x, weights, state)[0], atol=0.05, rtol=0.05)


def test_strides() -> None:
    x, weights, state = _inputs("LSTM", 3, 4, 5, 6)
    turned = x.detach().transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(recurrent("LSTM", turned, weights, state)[0], recurrent.reference("LSTM", x, weights, state)[0])
