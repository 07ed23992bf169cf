"""Singular values brought near 1."""

from __future__ import annotations

import pytest
import torch
from torch.optim._muon import DEFAULT_A, DEFAULT_B, DEFAULT_C, _zeropower_via_newtonschulz

from genus.ops import products
from genus.ops.dispatch import forced
from genus.ops.newton_schulz import newton_schulz


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 16, 16), (2, 7, 30), (2, 50, 9), (1, 96, 130), (2, 129, 64), (2, 192, 200), (1, 310, 258)], ids=str
)
@pytest.mark.parametrize("transposed", [False, True])
def test_each_matrix_as_torch_has_it(shape: tuple[int, int, int], transposed: bool) -> None:
    x = torch.randn(shape).mul_(3)
    x = x.mT if transposed else x
    found = newton_schulz(x)
    assert found.shape == x.shape and found.dtype == torch.bfloat16
    for one, y in zip(x, found, strict=True):
        torch.testing.assert_close(newton_schulz(one[None])[0], y, atol=0.02, rtol=0.02)
        wanted = _zeropower_via_newtonschulz(one, (DEFAULT_A, DEFAULT_B, DEFAULT_C), 5, 1e-7).float()
        assert (y.float() - wanted).norm() < 0.03 * wanted.norm()


def test_singular_values_and_vectors() -> None:
    u, _, v = torch.linalg.svd(torch.randn(24, 40), full_matrices=False)
    values = torch.linspace(0.05, 1.0, 24)
    found = newton_schulz((u * values @ v)[None])[0].float()
    assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.35
    turned = u.T @ found @ v.T
    assert (turned - turned.diagonal().diag()).abs().max() < 0.05, "the singular vectors stay"


def test_a_matrix_that_is_none_and_one_that_is_no_number_leave_the_others_alone() -> None:
    x = torch.randn(4, 12, 20)
    alone = newton_schulz(x[3:])
    x[0], x[1, 2, 3] = 0.0, float("nan")
    found = newton_schulz(x)
    assert not found[0].any() and found[1].isnan().all() and found[2:].isfinite().all()
    torch.testing.assert_close(found[3:], alone, atol=0.02, rtol=0.02)


@pytest.mark.skipif(not products.available(), reason="no kernel in C here, or torch is faster")
@pytest.mark.parametrize("rows", [2, 66, 130, 252])
def test_products_that_are_symmetric_and_added(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a product, mirrored, is the whole one; on any number of threads."""
    x, plus = torch.randn(rows, 74).bfloat16(), torch.randn(rows, rows).bfloat16()
    plus = plus + plus.T
    whole = products.product(torch.empty_like(plus), [x], [x], True)
    sum_ = 0.5 * x.double() @ x.double().T - 3.0 * plus.double()
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        half = torch.full_like(plus, float("nan"))
        assert torch.equal(products.product(half, [x], [x], True, symmetric=True), whole)
        found = products.product(half, [x], [x], True, plus=plus, times=(0.5, -3.0), symmetric=True)
        assert (found.double() - sum_).abs().max() < 2**-8 * sum_.abs().max() and torch.equal(found, found.T)


@pytest.mark.skipif(not products.available(), reason="no kernel in C here, or torch is faster")
def test_the_kernel_takes_what_is_large_and_even() -> None:
    x = torch.randn(2, 192, 194)
    assert newton_schulz.chosen(x) == newton_schulz.chosen(x.mT) == "native"
    assert newton_schulz.chosen(x[:, 1:]) == newton_schulz.chosen(x[:, :190]) == newton_schulz.chosen(x.double()) == "reference"
    with forced(newton_schulz="reference"):
        wanted = newton_schulz(x).float()
    assert (newton_schulz(x).float() - wanted).norm() < 0.02 * wanted.norm()
