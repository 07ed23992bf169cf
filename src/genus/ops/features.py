"""Feature maps of linear attention: what turns a key or a query into a vector whose dot products serve as weights.

Shapes: (..., K) in, (..., F) out.
"""

from __future__ import annotations

import ctypes
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native
from genus.ops.dispatch import Op
from genus.ops.native import number

ELU_PLUS_ONE, UNIT_LENGTH = range(2)
_THREE = ctypes.c_int64 * 3


@Op
def elu_plus_one(x: Tensor) -> Tensor:
    """elu(x) + 1, positive everywhere (Katharopoulos et al. 2020, eq. 7). F = K."""
    return F.elu(x) + 1


@Op
def unit_length(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / |x|, so that one write with beta = 1 replaces exactly what a key held (Yang et al. 2024). F = K."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().sum(-1, keepdim=True) + eps).rsqrt()).to(x.dtype)


def _kernel() -> native.Kernel | None:
    return native.kernel("steps", "genus_features", "nppnnnnpnpn")


def _few(x: Tensor, eps: float = 0.0) -> bool:
    """Whether this is a step of decoding: x (B, H, 1, K)."""
    return x.dim() == 4 and x.shape[2] == 1 and x.stride(3) == 1 and native.reads(x) and _kernel() is not None


def _featured(what: int, x: Tensor, eps: float) -> Tensor:
    y = x.new_empty(x.shape)
    function = _kernel()
    assert function is not None
    strides = _THREE(*x.stride()[:3])
    bf16 = x.dtype == torch.bfloat16
    held = (x, y)
    function(what, x.data_ptr(), strides, *x.shape, number(eps), bf16, y.data_ptr(), torch.get_num_threads(), held=held)
    return y


@elu_plus_one.path("native", when=_few)
def _elu_plus_one_native(x: Tensor) -> Tensor:
    """The kernel in C: in a step of decoding the way through torch takes longer than the work."""
    return _featured(ELU_PLUS_ONE, x, 0.0)


@unit_length.path("native", when=_few)
def _unit_length_native(x: Tensor, eps: float = 1e-6) -> Tensor:
    """The kernel in C."""
    return _featured(UNIT_LENGTH, x, eps)


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
