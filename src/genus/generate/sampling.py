"""Sampling: pure functions from logits to the next token. Order: temperature, top-k, top-p, min-p, then one draw.

Every filter acts on the probabilities that the earlier ones left, renormalised, as in Hugging Face transformers.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

OUT = float("-inf")


@dataclass(frozen=True)
class Sampling:
    """How one row chooses its next token.

    Attributes:
        temperature: divides the logits; 0 = always the most probable token (the lowest id among equals).
        top_k: only the k most probable tokens; 0 = all. Tokens as probable as the k-th stay.
        top_p: the fewest most probable tokens that together reach this probability (Holtzman et al. 2020); 1 = all.
        min_p: only tokens at least this times as probable as the best (Nguyen et al. 2024); 0 = all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature {self.temperature} must be 0 (always the best token) or more; 1 is the model's own")
        if self.top_k < 0:
            raise ValueError(f"top-k {self.top_k} must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top-p {self.top_p} must be above 0 and at most 1 (all tokens)")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min-p {self.min_p} must be between 0 (all tokens) and 1")


def keep_top_k(logits_BV: Tensor, k_B: Tensor) -> Tensor:
    """Each row's `k` largest logits, the rest -inf. k = 0 keeps a row as it is."""
    most = min(int(k_B.max()), logits_BV.shape[1])
    if most <= 0:
        return logits_BV
    best = logits_BV.topk(most, dim=-1).values
    border = best.gather(1, (k_B.clamp(1, most) - 1)[:, None])
    return logits_BV.masked_fill((logits_BV < border) & (k_B > 0)[:, None], OUT)


def keep_top_p(logits_BV: Tensor, p_B: Tensor) -> Tensor:
    """Each row's fewest most probable tokens that together reach `p`, the rest -inf. Of equals the lower id comes first."""
    if bool((p_B >= 1).all()):
        return logits_BV
    ordered, order = logits_BV.sort(dim=-1, descending=True, stable=True)
    probs = ordered.double().softmax(-1)
    before = probs.cumsum(-1) - probs
    drop = (before >= p_B[:, None]) & (p_B < 1)[:, None]
    drop[:, 0] = False
    return logits_BV.masked_fill(torch.zeros_like(drop).scatter_(1, order, drop), OUT)


def keep_min_p(logits_BV: Tensor, p_B: Tensor) -> Tensor:
    """Each row's tokens with at least `p` times the probability of its best, the rest -inf."""
    if not bool((p_B > 0).any()):
        return logits_BV
    below = logits_BV.double() - logits_BV.double().amax(-1, keepdim=True)
    return logits_BV.masked_fill(below < p_B.log()[:, None], OUT)


def draw(logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """(B,) token ids by inverse transform: the first token whose cumulative probability exceeds the row's number in [0, 1)."""
    cumulative = logits_BV.double().softmax(-1).cumsum(-1)
    wanted = uniform_B[:, None] * cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, wanted, right=True)[:, 0]
    # rounding may carry the last draw past the last token that has any probability
    last = (logits_BV > OUT).long() * torch.arange(logits_BV.shape[1], device=logits_BV.device)
    return torch.minimum(ids, last.amax(-1))


def choose(logits_BV: Tensor, rows: Sequence[Sampling], uniform_B: Tensor) -> Tensor:
    """(B,) the next token of every row, each by its own rules.

    Args:
        uniform_B: one number in [0, 1) per row, float64; rows with temperature 0 ignore theirs.

    Raises:
        ValueError: the model gave NaN.
    """
    if bool(logits_BV.isnan().any()):
        raise ValueError("the model's output is NaN: its weights are damaged, or --dtype bf16 is too coarse; try --dtype fp32")
    best = logits_BV.argmax(-1)
    warm = [i for i, row in enumerate(rows) if row.temperature > 0]
    if not warm:
        return best

    def column(name: str, dtype: torch.dtype) -> Tensor:
        return torch.tensor([getattr(rows[i], name) for i in warm], dtype=dtype, device=logits_BV.device)

    index = torch.tensor(warm, device=logits_BV.device)
    kept = logits_BV[index].double() / column("temperature", torch.float64)[:, None]
    kept = keep_top_k(kept, column("top_k", torch.int64))
    kept = keep_top_p(kept, column("top_p", torch.float64))
    kept = keep_min_p(kept, column("min_p", torch.float64))
    return best.index_copy(0, index, draw(kept, uniform_B.to(logits_BV.device)[index]))
