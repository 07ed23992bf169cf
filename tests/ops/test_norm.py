"""Normalisation: every path against the readable one, with gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genus.ops import norm
from genus.ops.native import library
from genus.ops.norm import layer_norm, rms_norm

CLOSE = {torch.float32: {"atol": 2e-5, "rtol": 1e-4}, torch.bfloat16: {"atol": 5e-2, "rtol": 5e-2}}
needs_kernel = pytest.mark.skipif(library("rows") is None, reason="no kernel in C here")
SHAPES = [(1, 1, 4), (3, 5, 17), (2, 64, 32), (7, 3)]


def _run(path: Any, x: Tensor, *args: Any) -> list[Tensor]:
    leaves = [x, *(a for a in args if isinstance(a, Tensor))]
    y = path(x, *args)
    torch.manual_seed(1)
    return [y, *torch.autograd.grad((y.float() * torch.randn(y.shape)).sum(), leaves)]


def _same(op: Any, x: Tensor, *args: Any) -> None:
    expected = _run(op.reference, x, *args)
    assert op.paths
    for name, (when, path) in op.paths.items():
        if not when(x, *args):  # one that makes no gradient
            continue
        for a, b in zip(_run(path, x, *args), expected, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape
            scale = float(b.detach().abs().max()) + 1e-9
            torch.testing.assert_close(a / scale, b / scale, **CLOSE[x.dtype], msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = (torch.randn(shape) * 3).to(dtype).requires_grad_()
    _same(rms_norm, x, torch.randn(shape[-1]).requires_grad_(), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(shape: tuple[int, ...], dtype: torch.dtype, bias: bool) -> None:
    x = (torch.randn(shape) * 3 + 1).to(dtype).requires_grad_()
    shift = torch.randn(shape[-1]).requires_grad_() if bias else None
    _same(layer_norm, x, torch.randn(shape[-1]).requires_grad_(), shift, 1e-5)


@pytest.mark.parametrize("op", [rms_norm, layer_norm])
def test_strides(op: Any) -> None:
    """Heads are normalised as a transposed view, and gradients come back through transposes and broadcasts."""
    weight = torch.randn(8).requires_grad_()
    args = (weight, 1e-6) if op is rms_norm else (weight, None, 1e-6)
    base = torch.randn(2, 5, 3, 8).bfloat16().requires_grad_()
    for name, (when, path) in op.paths.items():
        if not when(base, *args):
            continue
        grads = []
        for f in (path, op.reference):
            y = f(base.transpose(1, 2), *args).transpose(2, 3)
            grads.append(torch.autograd.grad((y.contiguous().float() * torch.arange(5.0)).sum(), (base, weight)))
            grads[-1] += torch.autograd.grad(f(base.transpose(1, 2), *args).sum(), (base, weight))  # an expanded gradient
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, atol=0.3, rtol=5e-2, msg=lambda m, name=name: f"{name}: {m}")


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 300), (400, 200)])
def test_without_a_gradient_the_kernel_runs(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = (torch.randn(shape) * 3 + 1).to(dtype)
    weight, shift = torch.randn(shape[-1], requires_grad=True), torch.randn(shape[-1])
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.0, "rtol": 2**-7}
    with torch.no_grad():
        for op, args in ((rms_norm, (weight, 1e-5)), (layer_norm, (weight, shift, 1e-5)), (layer_norm, (weight, None, 1e-5))):
            assert op.chosen(x, *args) == "native"
            torch.testing.assert_close(op(x, *args), op.reference(x, *args), **close)
            swapped = x.movedim(0, -2)  # what is not dense is copied
            torch.testing.assert_close(op(swapped, *args), op.reference(swapped, *args), **close)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 300), (400, 200)])
def test_kernel_with_gradients(shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the definition in float32, of what is not dense; on any number of threads the same."""
    x = (torch.randn(shape) * 3 + 1).to(dtype).movedim(0, -2).requires_grad_()
    weight, shift = (torch.randn(shape[-1]).requires_grad_() for _ in range(2))
    close = 1e-6 if dtype == torch.float32 else 4e-3
    for op, args in ((rms_norm, (weight, 1e-5)), (layer_norm, (weight, shift, 1e-5)), (layer_norm, (weight, None, 1e-5))):
        assert op.chosen(x, *args) == "native"
        found = []
        for threads in (1, 3):
            monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
            found.append(_run(op, x, *args))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        exact = _run(op.reference, x.detach().float().requires_grad_(), *args)
        for a, b in zip(found[0], exact, strict=True):
            assert a.shape == b.shape and (a.float() - b).norm() < close * (b.norm() + 1)


@needs_kernel
def test_kernel_without_rows() -> None:
    x, weight = torch.randn(0, 8).bfloat16().requires_grad_(), torch.ones(8, requires_grad=True)
    y, *grads = _run(rms_norm, x, weight, 1e-5)
    assert y.shape == (0, 8) and grads[0].shape == (0, 8) and torch.equal(grads[1], torch.zeros(8))


def test_formulas() -> None:
    x, w, b = torch.randn(4, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    rms = x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * w
    torch.testing.assert_close(rms_norm(x.float(), w.float(), 0.1), rms.float())
    centred = x - x.mean(-1, keepdim=True)
    full = centred / (centred.square().mean(-1, keepdim=True) + 0.1).sqrt() * w + b
    torch.testing.assert_close(layer_norm(x.float(), w.float(), b.float(), 0.1), full.float())


def test_master_weights_keep_their_precision() -> None:
    x, weight = torch.randn(3, 8).bfloat16().requires_grad_(), torch.ones(8, requires_grad=True)
    for y in (rms_norm(x, weight, 1e-6), layer_norm(x, weight, None, 1e-6)):
        assert y.dtype == torch.bfloat16
        y.sum().backward()
        assert weight.grad is not None and weight.grad.dtype == torch.float32


def test_which_path(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(2, 4), torch.ones(4, requires_grad=True)
    monkeypatch.setattr(norm, "_kernel", lambda: None)
    assert rms_norm.chosen(x.bfloat16(), weight, 1e-6) == "fused"
    assert rms_norm.chosen(x, weight, 1e-6) == "torch"
