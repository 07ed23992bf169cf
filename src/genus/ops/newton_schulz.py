"""Matrices whose singular values are brought near 1: what Muon makes of a momentum (Jordan et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from genus.ops import products
from genus.ops.dispatch import Op
from genus.ops.native import computes

FACTORS = (3.4445, -4.7750, 2.0315)  # of x, x³ and x⁵: the steepest start, after which values stay within 0.7 and 1.2
STEPS = 5
EPS = 1e-7
LARGE = 192  # rows or columns, from which half of a product is less than torch's of all matrices together


@Op
def newton_schulz(x: Tensor) -> Tensor:
    """x (matrices, rows, columns) to matrices in bf16 with the same singular vectors and singular values near 1.

    Every matrix is divided by its Frobenius norm; five times each singular value s then becomes 3.4445 s - 4.7750 s³ + 2.0315 s⁵.
    The products are in bf16, those of all matrices of the shape together.
    """
    a, b, c = FACTORS
    tall = x.shape[1] > x.shape[2]
    y = _scaled(x.mT if tall else x).squeeze(0)
    added = torch.addmm if y.dim() == 2 else torch.baddbmm  # of one matrix the first is faster
    for _ in range(STEPS):
        gram = y @ y.mT
        y = added(y, added(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return (y.mT if tall else y).expand_as(x)


def _scaled(x: Tensor) -> Tensor:
    """In bf16, with a Frobenius norm of 1; so no singular value is larger."""
    return (x / torch.linalg.matrix_norm(x, dtype=torch.float32, keepdim=True).clamp(min=EPS)).bfloat16()


def _fits(x: Tensor) -> bool:
    rows, columns = x.shape[1:]
    return computes(x) and min(rows, columns) >= LARGE and rows % 2 == columns % 2 == 0 and products.available()


@newton_schulz.path("native", when=_fits)
def _newton_schulz_native(x: Tensor) -> Tensor:
    """The products of training in C: two of three are symmetric, and half of them is computed."""
    a, b, c = FACTORS
    tall = x.shape[1] > x.shape[2]
    whole = _scaled(x.mT if tall else x).contiguous()
    gram, polynomial = whole.new_empty(2, whole.shape[1], whole.shape[1])
    for i, y in enumerate(whole):
        for _ in range(STEPS):
            products.product(gram, [y], [y], True, symmetric=True)
            products.product(polynomial, [gram], [gram], False, plus=gram, times=(c, b), symmetric=True)
            y = products.product(torch.empty_like(y), [polynomial], [y], False, plus=y, times=(1.0, a))
        whole[i] = y
    return whole.mT if tall else whole
