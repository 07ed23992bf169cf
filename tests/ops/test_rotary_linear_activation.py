"""The small ops: rotary rotation, affine map, non-linearities."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from genus.ops.activation import ACTIVATIONS, activation, gated, gelu_tanh, silu, softcap
from genus.ops.dispatch import forced
from genus.ops.linear import linear
from genus.ops.native import library
from genus.ops.rotary import rotary

needs_kernel = pytest.mark.skipif(library("rows") is None, reason="no kernel in C here")


@pytest.mark.parametrize("batched", [False, True])
def test_rotary_is_a_rotation_of_pairs(batched: bool) -> None:
    """Feature i and n + i turn together by the angle, as complex numbers do; the rest stays."""
    x = torch.randn(2, 3, 5, 10)
    angle = torch.rand(2, 1, 5, 4) * 6 if batched else torch.rand(5, 4) * 6
    y = rotary(x, angle.cos(), angle.sin())
    turned = torch.complex(x[..., :4], x[..., 4:8]) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(y, torch.cat([turned.real, turned.imag, x[..., 8:]], dim=-1))
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))


def test_linear_rounds_weights_to_the_activations() -> None:
    x, w, b = torch.randn(4, 3, 5).bfloat16(), torch.randn(7, 5, requires_grad=True), torch.randn(7, requires_grad=True)
    y = linear(x, w, b)
    torch.testing.assert_close(y, F.linear(x, w.bfloat16(), b.bfloat16()), atol=1e-2, rtol=1.6e-2)
    y.sum().backward()
    assert w.grad is not None and w.grad.dtype == torch.float32
    torch.testing.assert_close(linear(x.float(), w), x.float() @ w.T)


def test_activations() -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)
    phi = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    formulas = {
        "relu": x.clamp(min=0),
        "relu2": x.clamp(min=0) ** 2,
        "gelu": x * phi,
        "gelu_tanh": 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "silu": x / (1 + torch.exp(-x)),
        "tanh": torch.tanh(x),
    }
    assert set(formulas) == set(ACTIVATIONS)
    for name, y in formulas.items():
        torch.testing.assert_close(activation(name, x), y)
    with pytest.raises(ValueError, match="no activation 'swish'; choose one of: relu"):
        activation("swish", x)


TAILS = [-1e4, -100.0, 100.0, 1e4]


@pytest.mark.parametrize("path", ["sigmoid", "native"])
def test_gelu_through_the_sigmoid(path: str) -> None:
    """bfloat16 against the definition in float32: value and slope, far into both tails."""
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor(TAILS)]).bfloat16().requires_grad_()
    fits, run = gelu_tanh.paths[path]
    if not fits(x):
        pytest.skip("no kernel in C here")
    exact = x.detach().float().requires_grad_()
    y, z = run(x), gelu_tanh.reference(exact)
    (slope,), (slope_exact,) = torch.autograd.grad(y.sum(), x), torch.autograd.grad(z.sum(), exact)
    torch.testing.assert_close(y.float(), z, atol=4e-3, rtol=1e-2)
    torch.testing.assert_close(slope.float(), slope_exact, atol=2e-2, rtol=1e-2)


@needs_kernel
@pytest.mark.parametrize("name", ["silu", "gelu_tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 17, 33), (300, 130)])
def test_gates(shape: tuple[int, ...], dtype: torch.dtype, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone and with a gate, value and gradients against the definition in float32; gradients that are expanded; threads."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x, up = ((torch.randn(shape) * 4).to(dtype).requires_grad_() for _ in range(2))
    exact = [t.detach().float().requires_grad_() for t in (x, up)]
    torch_s = {"silu": F.silu, "gelu_tanh": lambda t: F.gelu(t, approximate="tanh")}[name]
    close = {"atol": 2e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-3, "rtol": 2**-7}
    op = {"silu": silu, "gelu_tanh": gelu_tanh}[name]
    assert op.chosen(x) == "native" and gated.chosen(name, x, up) == "native"
    for own, wanted, leaves in ((op, torch_s, 1), (lambda a, b: gated(name, a, b), lambda a, b: torch_s(a) * b, 2)):
        y, z = own(*(x, up)[:leaves]), wanted(*exact[:leaves])
        weigh = torch.randn(shape).to(dtype)
        pairs = [(y, z)]
        for g in (weigh, torch.ones((), dtype=dtype).expand(shape)):
            got = torch.autograd.grad(y, (x, up)[:leaves], g, retain_graph=True)
            pairs += zip(got, torch.autograd.grad(z, exact[:leaves], g.float(), retain_graph=True), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(a.float(), b, **close)
        with torch.no_grad():
            assert torch.equal(own(*(x, up)[:leaves]), y)


def test_gates_by_another_path() -> None:
    """What the kernel does not take: numbers that are not side by side, other activations and precisions."""
    x, up = torch.randn(4, 6).T, torch.randn(4, 6).T
    for name in ACTIVATIONS:
        torch.testing.assert_close(gated(name, x, up), activation(name, x) * up)
    assert gated.chosen("silu", x, up) == "reference" == gated.chosen("relu", x.contiguous(), up.contiguous())
    assert gated.chosen("silu", x.contiguous().double(), up.contiguous().double()) == "reference"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", ["in place", "native"])
def test_rotary_paths(name: str, batched: bool, dtype: torch.dtype) -> None:
    """A transposed view, a part of each head that is not turned, a gradient that is expanded."""
    x = torch.randn(2, 5, 3, 10).to(dtype).requires_grad_()
    angle = torch.rand(2, 1, 5, 4) * 6 if batched else torch.rand(5, 4) * 6
    tables = angle.cos().to(dtype), angle.sin().to(dtype)
    fits, own = rotary.paths[name]
    if not fits(x.transpose(1, 2), *tables):
        pytest.skip("no kernel in C here")
    close = {torch.float32: {"atol": 1e-5, "rtol": 1e-5}, torch.bfloat16: {"atol": 4e-2, "rtol": 2e-2}}[dtype]
    for weigh in (lambda y: (y.float() * torch.arange(10.0)).sum(), lambda y: y.sum()):
        results = []
        for path in (own, rotary.reference):
            y = path(x.transpose(1, 2), *tables)
            results.append([y, *torch.autograd.grad(weigh(y), x)])
        scale = float(results[1][1].abs().max())
        torch.testing.assert_close(results[0][0], results[1][0], **close)
        torch.testing.assert_close(results[0][1] / scale, results[1][1] / scale, **close)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 5, 7)])
@pytest.mark.parametrize("frozen", [None, 0, 1, 2])
def test_linear_paths(shape: tuple[int, ...], frozen: int | None) -> None:
    """Value and gradients against the readable definition, with any one argument that needs no gradient."""
    x, w, b = torch.randn(shape).bfloat16(), torch.randn(4, 7), torch.randn(4)
    leaves = [t.requires_grad_() for i, t in enumerate((x, w, b)) if i != frozen]
    assert linear.chosen(x, w, b) == "add"
    results = []
    for path in (linear, linear.reference):
        y = path(x, w, b)
        slope = torch.arange(4.0) - 1.5
        results.append([y, *torch.autograd.grad((y.float() * slope).sum(), leaves)])
    for a, c in zip(*results, strict=True):
        assert a.dtype == c.dtype and a.shape == c.shape
        torch.testing.assert_close(a, c, atol=5e-2, rtol=2e-2)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("head", [6, 40, 64])
def test_rotary_without_a_gradient(batched: bool, dtype: torch.dtype, head: int) -> None:
    """The kernel in C: dense heads, a transposed view, many rows, a part of each head that is not turned."""
    n = head // 2 - 1
    close = {torch.float32: {"atol": 1e-5, "rtol": 1e-5}, torch.bfloat16: {"atol": 1e-2, "rtol": 2**-7}}[dtype]
    for shape in ((2, 5, 3, head), (2, 400, 7, head)):
        x = torch.randn(shape).to(dtype)
        for view in (x, x.transpose(1, 2)):
            angle = torch.rand(2, 1, view.shape[2], n) * 6 if batched else torch.rand(view.shape[2], n) * 6
            tables = angle.cos().to(dtype), angle.sin().to(dtype)
            assert rotary.chosen(view, *tables) == "native"
            expected = rotary.reference(view.float(), *(table.float() for table in tables)).to(dtype)
            torch.testing.assert_close(rotary(view, *tables), expected, **close)


@needs_kernel
@torch.inference_mode()
def test_softcap_paths() -> None:
    x = torch.cat([torch.linspace(-200, 200, 4001), torch.tensor([0.0, float("inf"), float("-inf"), float("nan")])])
    assert softcap.chosen(x, 30.0) == "native"
    with forced(softcap="reference"):
        expected = softcap(x, 30.0)
    torch.testing.assert_close(softcap(x, 30.0), expected, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert softcap.chosen(x.bfloat16(), 30.0) == softcap.chosen(x[::2], 30.0) == "reference"
