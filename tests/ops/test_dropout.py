"""Dropout with cheap random numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from genus.ops import dropout as dropout_module
from genus.ops.dispatch import forced
from genus.ops.dropout import dropout
from genus.ops.native import library

needs_kernel = pytest.mark.skipif(library("training") is None, reason="no kernel in C here")
PATHS = ["reference", *(name for name, (fits, _) in dropout.paths.items() if fits(torch.ones(1), 0.5))]


@pytest.fixture(params=PATHS, name="each_path")
def _each_path(request: pytest.FixtureRequest) -> Iterator[None]:
    with forced(dropout=request.param):
        yield


every_path = pytest.mark.usefixtures("each_path")


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@every_path
def test_share_and_scale(p: float) -> None:
    n = 200_000
    y = dropout(torch.ones(n), p)
    kept = y != 0
    assert abs(kept.float().mean() - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5
    torch.testing.assert_close(y[kept], torch.full((int(kept.sum()),), 1 / (1 - p)), rtol=2e-4, atol=0)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 4), (0, 4)])
@every_path
def test_any_shape(shape: tuple[int, ...]) -> None:
    y = dropout(torch.ones(shape), 0.5)
    assert y.shape == shape and torch.isin(y, torch.tensor([0.0, 2.0])).all()


@pytest.mark.parametrize("p", [1 - 1e-6, 1.0])
def test_almost_all_and_all(p: float) -> None:
    x = torch.randn(500, requires_grad=True)
    y = dropout(x, p)
    assert y.isfinite().all() and (y != 0).sum() <= (3 if p < 1 else 0)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0] != 0, y != 0)


@every_path
def test_elements_are_independent() -> None:
    """Four neighbours share one draw of the generator; they must not share its fate."""
    y = (dropout(torch.ones(400_000), 0.5) != 0).float() - 0.5
    for lag in (1, 2, 3, 4, 8, 64):
        assert abs(float((y[lag:] * y[:-lag]).mean())) < 0.25 * 5 / 400_000**0.5


@every_path
def test_seed() -> None:
    x = torch.randn(50, 50)
    torch.manual_seed(5)
    first, second = dropout(x, 0.3), dropout(x, 0.3)
    torch.manual_seed(5)
    assert torch.equal(dropout(x, 0.3), first) and not torch.equal(first, second)


@every_path
def test_gradient_passes_where_the_value_does() -> None:
    x = torch.randn(100, requires_grad=True)
    y = dropout(x, 0.4)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad * x.detach(), y.detach())


@every_path
def test_precision_and_strides() -> None:
    x = torch.randn(6, 8).bfloat16().T
    y = dropout(x, 0.5)
    assert y.dtype == torch.bfloat16 and y.shape == (8, 6)
    assert torch.equal(y[y != 0], (x * 2)[y != 0])


def test_identity() -> None:
    x = torch.randn(3)
    assert dropout(x, 0.5, training=False) is x and dropout(x, 0.0) is x


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_on_any_number_of_threads(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x, found = torch.randn(300, 111).to(dtype).requires_grad_(), []
    assert dropout.chosen(x, 0.3) == "native"
    for threads in (1, 2, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        torch.manual_seed(5)
        y = dropout(x, 0.3)
        found.append((y, *torch.autograd.grad(y.sum(), x)))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def _philox(counter: int, seed: int) -> list[int]:
    """Philox4x32-10 as it is written (Salmon et al. 2011, section 3.3)."""
    word = 2**32
    c, k = [counter % word, counter // word, 0, 0], [seed % word, seed // word]
    for _ in range(10):
        x, y = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [y // word ^ c[1] ^ k[0], y % word, x // word ^ c[3] ^ k[1], x % word]
        k = [(k[0] + 0x9E3779B9) % word, (k[1] + 0xBB67AE85) % word]
    return c


@needs_kernel
def test_the_bits_are_philox() -> None:
    assert [f"{word:08x}" for word in _philox(0, 0)] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]  # Random123's own test
    seed, n = 0x1234_5678_9ABC_DEF1, 150
    kept = dropout_module._dropped(torch.ones(n), 0.5, seed) != 0
    words = [[_philox(8 * block + lane, seed) for lane in range(8)] for block in range(3)]
    bits = [w >> half & 0xFFFF for block in words for i in range(4) for lane in block for w in (lane[i],) for half in (0, 16)]
    assert kept.tolist() == [b >= 32768 for b in bits[:n]]
