"""Additive attention against the published formula, one position at a time."""

import torch

from genus.ops.additive import additive_attention


def test_formula() -> None:
    q, k, v, energy = torch.randn(3, 5), torch.randn(3, 7, 5), torch.randn(3, 7, 4), torch.randn(5)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 4:] = mask[2, 0] = False
    found = additive_attention(q, k, v, energy, mask)
    for n in range(3):
        places = [j for j in range(7) if mask[n, j]]
        e = torch.stack([energy @ torch.tanh(q[n] + k[n, j]) for j in places])
        expected = sum(a * v[n, j] for a, j in zip(e.softmax(0), places, strict=True))
        torch.testing.assert_close(found[n], expected)
    whole = additive_attention(q, k, v, energy)
    torch.testing.assert_close(whole[0], found[0])
    assert not torch.allclose(whole[1], found[1])


def test_half_precision_follows_the_state() -> None:
    q, k, v, energy = torch.randn(1, 5), torch.randn(1, 7, 5), torch.randn(1, 7, 4), torch.randn(5)
    assert additive_attention(q.bfloat16(), k, v, energy).dtype == torch.bfloat16
