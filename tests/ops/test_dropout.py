"""Dropout with cheap random numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from genus.ops.dispatch import forced
from genus.ops.dropout import dropout

PATHS = ["reference", *dropout.paths]


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
