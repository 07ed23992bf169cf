"""Products for training by the kernels in C, against the definition in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genus.ops import products
from genus.ops.cross_entropy import linear_cross_entropy
from genus.ops.linear import linear, linears

needs_kernel = pytest.mark.skipif(not products.available(), reason="no kernel in C here, or torch is faster")


def _far(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted.detach()).abs().max() / wanted.detach().abs().max())


def _run(x: Tensor, weights: list[Tensor], biases: list[Any], grads: list[Tensor], exact: bool) -> list[Tensor]:
    """Results and gradients: of the dispatcher, or in float64 with the weights that the kernel rounds."""
    if exact:
        x, biases = x.detach().double(), [None if b is None else b.detach().double() for b in biases]
        weights, grads = [w.detach().bfloat16().double() for w in weights], [g.double() for g in grads]
    leaves = [t.detach().requires_grad_() for t in (x, *weights, *(b for b in biases if b is not None))]
    ws, rest = leaves[1 : 1 + len(weights)], iter(leaves[1 + len(weights) :])
    bs = [None if b is None else next(rest) for b in biases]
    ys = linears.reference(leaves[0], tuple(ws), tuple(bs)) if exact else linears(leaves[0], tuple(ws), tuple(bs))
    return [*ys, *torch.autograd.grad(ys, leaves, grads)]


@needs_kernel
@pytest.mark.parametrize("shape", [(16, 2), (37, 50), (5, 7, 130), (3, 343, 96), (1100, 34)], ids=str)
@pytest.mark.parametrize("outputs", [(2,), (70,), (34, 128, 66), (16, 48, 400)], ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients(
    shape: tuple[int, ...], outputs: tuple[int, ...], biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and columns that fill no tile, more rows than are summed at a time; the same on any number of threads."""
    x = torch.randn(shape).bfloat16()
    weights = [torch.randn(n, shape[-1]) for n in outputs]
    biases = [torch.randn(n) if biased and i != 1 else None for i, n in enumerate(outputs)]
    grads = [torch.randn(*shape[:-1], n).bfloat16() for n in outputs]
    assert linears.chosen(x, tuple(w.requires_grad_() for w in weights), tuple(biases)) == "product"
    wanted = _run(x, weights, biases, grads, exact=True)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        found.append(_run(x, weights, biases, grads, exact=False))
    for a, again, b in zip(*found, wanted, strict=True):
        assert torch.equal(a, again) and a.shape == b.shape
        assert _far(a, b) < (2**-8 if a.dtype == torch.bfloat16 else 2e-5)
    several = len(outputs)
    assert [t.dtype for t in found[0][several:]] == [torch.bfloat16] + [torch.float32] * (len(found[0]) - several - 1)


@needs_kernel
def test_numbers_that_are_not_side_by_side() -> None:
    """Inputs and gradients that are transposed, cut out of something wider, or expanded."""
    weight = torch.randn(40, 24, requires_grad=True)
    for x in (
        torch.randn(24, 50).bfloat16().T,
        torch.randn(50, 31).bfloat16()[:, 3:27],
        torch.randn(1, 24).bfloat16().expand(50, -1),
    ):
        assert linear.chosen(x, weight) == "product"
        for g in (torch.randn(40, 50).bfloat16().T, torch.ones(1, 1).bfloat16().expand(50, 40)):
            (found,) = torch.autograd.grad(linear(x, weight), weight, g)
            assert _far(found, g.double().T @ x.double()) < 1e-5


@needs_kernel
@pytest.mark.parametrize("learns", ["x", "weight", "bias", "bias too"])
def test_what_is_frozen_gets_no_gradient(learns: str) -> None:
    x, weight, bias = torch.randn(20, 6).bfloat16(), torch.randn(8, 6), torch.randn(8)
    leaves = {"x": [x], "weight": [weight], "bias": [x, bias], "bias too": [weight, bias]}[learns]
    for leaf in leaves:
        leaf.requires_grad_()
    y = linear(x, weight, bias)
    assert y.grad_fn is not None and linear.chosen(x, weight, bias) == "product"
    y.float().square().sum().backward()
    assert [t.grad is not None for t in (x, weight, bias)] == [any(t is leaf for leaf in leaves) for t in (x, weight, bias)]
    if bias.grad is not None:
        assert _far(bias.grad, (2 * y.double()).bfloat16().double().sum(0)) < 1e-5


@needs_kernel
def test_what_the_kernel_does_not_take() -> None:
    """Odd widths, few rows, other precisions, nothing to learn, what does not fit together."""
    x, weight = torch.randn(20, 6).bfloat16(), torch.randn(8, 6, requires_grad=True)
    assert linear.chosen(x, weight) == "product"
    for other in (x[:15], x.float(), x[:, :5], x[:, :4], x[:0]):
        assert linear.chosen(other, weight) != "product"
    for other in (weight.detach(), weight[:7], weight.double(), weight.T, weight[:, ::2]):
        assert linear.chosen(x, other) != "product"
    assert linear.chosen(x, weight, torch.randn(1)) != "product"
    with torch.no_grad():
        assert linear.chosen(x, weight) != "product"
    with pytest.raises(RuntimeError):
        linear(x[:, :4], weight)


def _cuts(rows: int, columns: int) -> list[Tensor]:
    """(rows, columns) in bf16: dense, cut out of something wider, transposed, every second row, one row for all."""
    wide = torch.randn(2 * rows + 1, columns + 7).bfloat16()
    return [
        wide[:rows, :columns].contiguous(),
        wide[:rows, 3 : 3 + columns],
        torch.randn(columns, rows).bfloat16().T,
        wide[: 2 * rows : 2, :columns],
        wide[:1, :columns].expand(rows, -1),
    ]


@needs_kernel
@pytest.mark.parametrize("columns", [1, 15, 48, 50, 131, 2000])
@pytest.mark.parametrize("rows", [0, 1, 2, 511, 1027])
def test_rows_are_summed(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a gradient of a weight and alone, on any number of threads the same; added to what is there."""
    start = torch.randn(columns)
    for g in _cuts(rows, columns):
        wanted = start.double() + g.double().sum(0)
        found = []
        for threads in (1, 2):
            monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
            found.append(products.add_rows(start.clone(), g))
            if rows:
                found.append(start.clone())
                x = torch.randn(rows, 6).bfloat16()
                products.product_back(torch.empty(columns, 6), products.rows_of(g), x, sums=found[-1])
        assert all(torch.equal(a, found[0]) for a in found)
        assert _far(found[0], wanted) < 1e-6 * max(1, rows) ** 0.5


@needs_kernel
def test_what_is_no_number_or_infinite_is_carried_into_its_sum_alone() -> None:
    g = torch.randn(700, 61).bfloat16()
    g[699, 60], g[3, 5], g[2, 17], g[600, 18], g[1, 18] = float("nan"), float("inf"), -float("inf"), float("inf"), -float("inf")
    found = products.add_rows(torch.zeros(61), g)
    assert torch.equal(found.isnan(), g.double().sum(0).isnan()) and found.isnan().nonzero()[:, 0].tolist() == [18, 60]
    assert found[5] == float("inf") and found[17] == -float("inf") and int(found.isfinite().sum()) == 57


def test_sums_without_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.randn(9, 5)
    assert torch.equal(products.add_rows(torch.ones(5), g), torch.ones(5) + g.sum(0))
    monkeypatch.setattr("genus.ops.native.kernel", lambda *_: None)
    assert torch.equal(products.add_rows(torch.ones(5), g.bfloat16()), torch.ones(5) + g.bfloat16().sum(0, dtype=torch.float32))


@needs_kernel
@pytest.mark.parametrize("options", [{}, {"scale": 0.3, "softcap": 5.0, "smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("vocab", [34, 5000])
def test_read_out(vocab: int, options: dict[str, float]) -> None:
    """The loss of a wide vocabulary, summed in several pieces, in chunks of sixteen rows and at once."""
    hidden, targets = torch.randn(50, 22).bfloat16().requires_grad_(), torch.randint(0, vocab, (50,))
    weight, bias = (0.1 * torch.randn(vocab, 22)).requires_grad_(), torch.randn(vocab, requires_grad=True)
    exact = [t.detach().double().requires_grad_() for t in (hidden, weight.detach().bfloat16(), bias)]
    wanted = linear_cross_entropy.reference(exact[0], exact[1], targets, exact[2], **options)
    slopes = torch.autograd.grad(wanted, exact)
    with pytest.MonkeyPatch.context() as patch:
        for bytes_ in (1, 2**26):
            patch.setattr("genus.ops.cross_entropy.CHUNK_BYTES", bytes_)
            loss = linear_cross_entropy(hidden, weight, targets, bias, **options)
            assert abs(loss.item() / wanted.item() - 1) < 1e-3
            for a, b in zip(torch.autograd.grad(loss, (hidden, weight, bias)), slopes, strict=True):
                assert _far(a, b) < 2e-2


@needs_kernel
def test_nothing_to_multiply() -> None:
    x, w, one = torch.empty(0, 8).bfloat16(), torch.randn(6, 8), torch.ones(6, 8)
    assert products.product(torch.empty(0, 6).bfloat16(), [x], [w], True).shape == (0, 6)
    assert not products.product_back(torch.full((6, 8), 3.0), torch.empty(0, 6).bfloat16(), x).any()
    assert torch.equal(products.product_back(torch.ones(6, 8), torch.empty(0, 6).bfloat16(), x, add=True), one)
