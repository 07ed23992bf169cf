"""One change of one matrix."""

from __future__ import annotations

import pytest
import torch

from genus.parts.linear import Linear
from genus.tune.adapters.low_rank import AdaptedLinear, LowRank


def _layer(bias: bool = True, dora: bool = False, dropout: float = 0.0) -> tuple[Linear, AdaptedLinear]:
    torch.manual_seed(0)
    base = Linear(12, 7, bias)
    torch.nn.init.normal_(base.weight)
    change = LowRank(base.weight, 3, 1.5, dropout, dora)
    torch.nn.init.normal_(change.lora_B)
    if change.lora_magnitude is not None:
        change.lora_magnitude.data *= 1.3
    return base, AdaptedLinear(base, change)


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_the_product_is_that_of_the_sum(bias: bool) -> None:
    base, layer = _layer(bias)
    c, x = layer.change, torch.randn(4, 5, 12)
    expected = torch.nn.functional.linear(x, base.weight + 1.5 * c.lora_B @ c.lora_A, base.bias)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(c(base.weight), base.weight + 1.5 * c.lora_B @ c.lora_A)


def test_dora_is_equation_5_of_its_paper() -> None:
    base, layer = _layer(dora=True)
    c, x = layer.change, torch.randn(4, 5, 12)
    assert c.lora_magnitude is not None
    sum_ = base.weight + 1.5 * c.lora_B @ c.lora_A
    weight = c.lora_magnitude[:, None] * sum_ / sum_.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, weight, base.bias))
    torch.testing.assert_close(c(base.weight), weight)


def test_dora_takes_no_gradient_through_the_lengths() -> None:
    """With the length a constant, the gradient of B is that of LoRA times m / length (Liu et al. 2024, equation 11)."""
    _, layer = _layer(bias=False, dora=True)
    c, x = layer.change, torch.randn(6, 12)
    stretch = c.stretch(layer.weight).detach()
    layer(x).sum().backward()
    inner = (x @ c.lora_A.T * 1.5).sum(0)
    torch.testing.assert_close(c.lora_B.grad, (stretch[:, None] * inner).detach())


def test_a_row_of_zeros_has_a_direction_only_once_it_has_one() -> None:
    base, _ = _layer()
    base.weight.data[2] = 0
    change = LowRank(base.weight, 3, 1.0, dora=True)
    layer = AdaptedLinear(base, change)
    assert layer(torch.randn(2, 12)).isfinite().all()


def test_dropout_falls_on_what_a_reads_alone() -> None:
    base, layer = _layer(dropout=0.5)
    x = torch.randn(64, 12)
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    layer.change.lora_B.data.zero_()
    torch.testing.assert_close(layer(x), base(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_activations_keep_their_precision() -> None:
    for dora in (False, True):
        _, layer = _layer(dora=dora)
        x = torch.randn(8, 12)
        low = layer(x.bfloat16())
        assert low.dtype == torch.bfloat16
        assert (low - layer(x)).abs().max() < 0.05 * layer(x).abs().max()


def test_a_small_stretch_is_not_rounded_away() -> None:
    """m / length is near 1, where bf16 has steps of 0.8 %: 1.003 would be 1."""
    base, _ = _layer(bias=False)
    change = LowRank(base.weight, 3, 1.0, dora=True)
    layer, x = AdaptedLinear(base, change), torch.randn(4000, 12).bfloat16()
    before = layer(x).float()
    assert change.lora_magnitude is not None
    change.lora_magnitude.data *= 1.003
    moved = ((layer(x).float() - before) * before).sum() / before.square().sum()
    assert 0.002 < moved < 0.004


def test_merging_twice_is_merging_once() -> None:
    base, layer = _layer()
    weight, x = base.weight.detach().clone(), torch.randn(3, 12)
    before = layer(x)
    layer.change.merge(base.weight)
    layer.change.merge(base.weight)
    torch.testing.assert_close(layer(x), before)
    torch.testing.assert_close(base(x), before)
    layer.change.unmerge(base.weight)
    assert torch.equal(base.weight, weight) and torch.equal(layer(x), before)
