"""Feature maps as their papers describe them."""

import pytest
import torch

from genus.ops.features import dpfp, elu_plus_one, favor, orthogonal_directions, sum_to_one, unit_length


def test_elu_plus_one():
    x = torch.tensor([-2.0, 0.0, 3.0])
    torch.testing.assert_close(elu_plus_one(x), torch.tensor([torch.e**-2, 1.0, 4.0]))


def test_unit_length():
    x = torch.randn(4, 8) * 100
    y = unit_length(x)
    torch.testing.assert_close(y.norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(y * x.norm(dim=-1, keepdim=True), x)
    assert unit_length(torch.zeros(8)).isfinite().all()


def test_dpfp_in_four_dimensions():
    """Figure 1 of the paper: two dimensions give four features, each alive in one quadrant, so three of four are zero."""
    for quadrant in ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)):
        y = dpfp(torch.tensor(quadrant), nu=1)
        assert y.shape == (4,) and (y > 0).sum() == 1
    places = {int(dpfp(torch.tensor(q), 1).argmax()) for q in ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0))}
    assert len(places) == 4


@pytest.mark.parametrize("nu", [1, 2, 3])
def test_dpfp_is_sparse_and_never_negative(nu):
    x = torch.randn(1000, 16)
    y = dpfp(x, nu)
    assert y.shape == (1000, 2 * 16 * nu)
    assert (y >= 0).all()
    assert 0.2 < (y > 0).float().mean() < 0.3  # both factors of a product are positive in a quarter of the cases
    r = torch.cat([x.relu(), (-x).relu()], dim=-1)
    torch.testing.assert_close(y[:, :32], r * r.roll(1, dims=-1))


def test_sum_to_one():
    y = sum_to_one(dpfp(torch.randn(10, 8), 2))
    torch.testing.assert_close(y.sum(-1), torch.ones(10), atol=1e-4, rtol=0)
    assert sum_to_one(torch.zeros(8)).isfinite().all()


def estimate(count: int, seed: int) -> torch.Tensor:
    """Relative error of the estimated softmax weights over 64 keys."""
    q, k = (torch.randn(64, 16) * 0.3 for _ in range(2))
    directions = orthogonal_directions(count, 16, seed)
    weights = favor(q, directions, largest=True) @ favor(k, directions, largest=False).mT
    exact = (q @ k.mT).softmax(-1)
    return ((weights / weights.sum(-1, keepdim=True) - exact).norm() / exact.norm()).detach()


def test_favor_comes_closer_with_more_features():
    errors = [float(torch.stack([estimate(count, seed) for seed in range(8)]).mean()) for count in (16, 64, 256, 1024)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 and errors[-1] < errors[0] / 3


def test_favor_is_unbiased_and_positive():
    q, k = torch.randn(2, 8) * 0.5
    draws = torch.stack(
        [favor(q, d, False) @ favor(k, d, False) for d in (orthogonal_directions(32, 8, seed) for seed in range(500))]
    )
    assert (draws > 0).all()
    assert abs(draws.mean() / (q @ k).exp() - 1) < 4 * draws.std() / 500**0.5 / draws.mean()


def test_directions_are_orthogonal_and_repeatable():
    w = orthogonal_directions(24, 16, seed=3)
    block = torch.nn.functional.normalize(w[:16], dim=-1)
    torch.testing.assert_close(block @ block.mT, torch.eye(16), atol=1e-5, rtol=0)
    assert torch.equal(w, orthogonal_directions(24, 16, seed=3))
    assert not torch.equal(w, orthogonal_directions(24, 16, seed=4))
    many = torch.cat([orthogonal_directions(16, 16, seed) for seed in range(100)])
    assert abs(many.square().sum(-1).mean() / 16 - 1) < 0.05  # lengths of Gaussian vectors


def test_large_queries_stay_finite():
    directions = orthogonal_directions(64, 16, 0)
    y = favor(torch.randn(4, 16) * 100, directions, largest=True)
    assert y.isfinite().all() and (y.amax(-1) > 0).all()
