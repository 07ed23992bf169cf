"""Feature maps of linear attention: what turns a key or a query into a vector whose dot products serve as weights.

Shapes: (..., K) in, (..., F) out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def elu_plus_one(x: Tensor) -> Tensor:
    """elu(x) + 1, positive everywhere (Katharopoulos et al. 2020, eq. 7). F = K."""
    return F.elu(x) + 1


def unit_length(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / |x|, so that one write with beta = 1 replaces exactly what a key held (Yang et al. 2024). F = K."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().sum(-1, keepdim=True) + eps).rsqrt()).to(x.dtype)


def dpfp(x: Tensor, nu: int) -> Tensor:
    """Deterministic parameter-free projection (DPFP; Schlag, Irie, Schmidhuber 2021, section 5.3). F = 2 K nu.

    The positive and negative parts of x side by side, times themselves rolled by 1 to nu places: sparse, never negative.
    """
    parts = torch.cat([x.relu(), (-x).relu()], dim=-1)
    return torch.cat([parts * parts.roll(places, dims=-1) for places in range(1, nu + 1)], dim=-1)


def favor(x: Tensor, directions: Tensor, largest: bool) -> Tensor:
    """Positive random features of the softmax kernel (FAVOR+; Choromanski et al. 2021, lemma 1).

    `favor(q) . favor(k)` estimates `exp(q . k)` without bias over random `directions`, (F, K).

    Args:
        largest: divide by the largest feature of each vector. For queries that are normalised later this changes nothing
            but the range of the numbers. It must not be done to keys, whose weights would change.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    exponent = wide @ directions.to(wide.dtype).mT - wide.square().sum(-1, keepdim=True) / 2
    if largest:
        exponent = exponent - exponent.detach().amax(-1, keepdim=True)
    return (exponent.exp() / math.sqrt(len(directions))).to(x.dtype)


def orthogonal_directions(count: int, dim: int, seed: int) -> Tensor:
    """(count, dim) random directions, orthogonal within every block of `dim`, with the lengths of Gaussian vectors.

    Orthogonality lowers the variance of the estimate (Choromanski et al. 2021). Always the same for the same seed.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for _ in range(math.ceil(count / dim)):
        q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
        blocks.append((q * r.diagonal().sign()).mT)  # without the signs the rotations would not be uniform (Mezzadri 2007)
    lengths = torch.randn(count, dim, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
    return (torch.cat(blocks)[:count] * lengths).float()


def sum_to_one(x: Tensor) -> Tensor:
    """Features divided by their sum: the normalisation of Schlag et al. (2021), which needs no running sum of keys."""
    return (x / (x.sum(-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)) + 1e-6)).to(x.dtype)
