"""Position schemes against their papers' formulas and their authors' code."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genus.ops.pairs import added
from genus.ops.rotary import rotary
from genus.parts.ctx import Ctx, distances
from genus.parts.positions import Alibi, LearnedPositions, RelativeBias, Rotary, RotaryScaling, Sinusoidal


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_rotary_scores_depend_on_distance_alone(share: float) -> None:
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(m: int, n: int) -> Tensor:
        turned = []
        for x, p in ((q, m), (k, n)):
            turned.append(rotary(x, *Rotary(share=share).tables(Ctx(torch.tensor([p])), 16, torch.float32)))
        return (turned[0] * turned[1]).sum()

    for m, n in ((7, 3), (100, 40), (3, 7)):
        torch.testing.assert_close(score(m, n), score(m + 211, n + 211), atol=1e-3, rtol=1e-3)
    assert abs(score(7, 3) - score(8, 3)) > 1e-3
    torch.testing.assert_close(score(5, 5), (q * k).sum(), atol=1e-4, rtol=1e-4)


def test_rotary_angles() -> None:
    """Pair i turns by position * theta^(-2i/n), n = the rotated features (Su et al. 2021, eq. 15)."""
    positions = torch.tensor([[0, 5, 9], [2, 2, 1000]])
    cos, sin = Rotary(500.0, 0.5).tables(Ctx(positions), 16, torch.float32)
    assert cos.shape == (2, 1, 3, 4)
    for b in range(2):
        for t in range(3):
            for i in range(4):
                angle = int(positions[b, t]) * 500.0 ** (-2 * i / 8)
                assert float(cos[b, 0, t, i]) == pytest.approx(math.cos(angle), abs=1e-4)
                assert float(sin[b, 0, t, i]) == pytest.approx(math.sin(angle), abs=1e-4)


def test_rotary_tables_are_made_once_per_forward() -> None:
    ctx = Ctx(torch.arange(4))
    assert Rotary().tables(ctx, 8, torch.float32)[0] is Rotary().tables(ctx, 8, torch.float32)[0]
    assert Rotary(1e6).tables(ctx, 8, torch.float32)[0] is not Rotary().tables(ctx, 8, torch.float32)[0]


def test_llama3_scaling() -> None:
    """Wavelengths below context / high stay, above context / low are stretched by the factor, between them a linear blend."""
    scaling = RotaryScaling(8.0, 1.0, 4.0, 8192)
    inverse = 500000.0 ** (-torch.arange(0, 128, 2).float() / 128)
    scaled = scaling.frequencies(inverse)
    for f, got in zip(inverse.tolist(), scaled.tolist(), strict=True):
        wavelength = 2 * math.pi / f
        if wavelength < 8192 / 4.0:
            want = f
        elif wavelength > 8192 / 1.0:
            want = f / 8.0
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            want = (1 - smooth) * f / 8.0 + smooth * f
        assert got == pytest.approx(want, rel=1e-5)
    between = (scaled != inverse) & ((scaled * 8 - inverse).abs() > 1e-6 * inverse)
    assert 0 < int(between.sum()) < 64  # the blend is exercised
    cos, _ = Rotary(500000.0, scaling=scaling).tables(Ctx(torch.tensor([1])), 128, torch.float32)
    torch.testing.assert_close(cos[0], scaled.cos())


def _published_slopes(n: int) -> list[float]:
    """Press et al.'s own function (attention_with_linear_biases, `get_slopes`)."""

    def power_of_2(n: int) -> list[float]:
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(n).is_integer():
        return power_of_2(n)
    closest = 2 ** math.floor(math.log2(n))
    return power_of_2(closest) + _published_slopes(2 * closest)[0::2][: n - closest]


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 8, 12, 16, 20])
def test_alibi_slopes(heads: int) -> None:
    bias = Alibi().bias(Ctx(torch.arange(3), start=2), heads, 3, 5)
    assert bias.shape == (1, heads, 3, 5)
    for h, slope in enumerate(_published_slopes(heads)):
        torch.testing.assert_close(bias[0, h, 2, 3], torch.tensor(-slope))
        for t in range(3):
            for s in range(5):
                assert float(bias[0, h, t, s]) == pytest.approx(slope * (s - (t + 2)), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("buckets", "longest"), [(32, 128), (8, 20), (32, 256)])
def test_t5_buckets_are_t5s(causal: bool, buckets: int, longest: int) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distance = distances(Ctx(torch.arange(300)), 300, 300)
    theirs = t5.T5Attention._relative_position_bucket(distance, not causal, buckets, longest)
    ours = RelativeBias(buckets, longest).bucket(distance, causal)
    assert torch.equal(ours, theirs)


def test_t5_bias_is_looked_up() -> None:
    table = RelativeBias(8, 20).build(3)
    torch.nn.init.normal_(table.weight)
    bias = table(distances(Ctx(torch.arange(4), start=2), 4, 6), True)
    assert bias.shape == (3, 4, 6)
    torch.testing.assert_close(bias[:, 3, 3], table.weight[2])  # two back: exact bucket 2
    torch.testing.assert_close(bias[:, 0, 5], table.weight[0])  # the future falls into bucket 0, and is masked


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("spec", [Alibi(), RelativeBias(8, 20)])
def test_what_distance_adds_is_the_same_by_pairs_and_by_distance(spec: Alibi | RelativeBias, causal: bool) -> None:
    ctx = Ctx(torch.arange(7))
    if isinstance(spec, RelativeBias):
        table = spec.build(3)
        torch.nn.init.normal_(table.weight)
        spec.share(table, ctx)
    by_pair = spec.bias(ctx, 3, 7, 7) if isinstance(spec, Alibi) else spec.bias(ctx, 7, 7, causal)
    assert torch.equal(added(spec.by_distance(ctx, 3, 7, causal), slice(0, 7), slice(0, 7), 7), by_pair[0])


def test_sinusoids() -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos (Vaswani et al. 2017, section 3.5)."""
    table = Sinusoidal().build(7)(torch.tensor([0, 3, 50]))
    for row, pos in zip(table.tolist(), (0, 3, 50), strict=True):
        for j, got in enumerate(row):
            angle = pos / 10000 ** ((j - j % 2) / 7)
            assert got == pytest.approx(math.cos(angle) if j % 2 else math.sin(angle), abs=1e-5)


def test_learned_positions_end() -> None:
    table = LearnedPositions(4).build(3)
    assert table(torch.tensor([[0, 3], [2, 2]])).shape == (2, 2, 3)
    assert LearnedPositions(4).parameters(3) == 12


def test_a_table_with_rows_before_the_first_position() -> None:
    spec = LearnedPositions(4, offset=2)
    table = spec.build(3)
    torch.nn.init.normal_(table.weight)
    assert table.weight.numel() == spec.parameters(3) == 18
    assert torch.equal(table(torch.arange(4)), table.weight[2:])
