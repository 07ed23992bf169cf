"""TokenRows: some rows of a table learn, the others stay. peft calls them trainable tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TokenRows(nn.Module):
    """W' = W (tokens, width) with the rows of some tokens replaced by rows that learn; they begin as those of W.

    For tokens that a model has not met: a low-rank change of its layers cannot tell them apart, since all begin as the same
    vector (`train.grow`).

    Attributes:
        index: (K,) ids of the tokens. rows: (K, width), what peft saves as `trainable_tokens_delta`.
    """

    index: Tensor

    def __init__(self, weight: Tensor, tokens: Sequence[int]) -> None:
        super().__init__()
        if not tokens or not 0 <= min(tokens) <= max(tokens) < len(weight):
            raise ValueError(f"rows {tokens[:1]} to {tokens[-1:]} of a table that has {len(weight)}; lengthen the table first")
        self.register_buffer("index", torch.tensor(list(tokens), device=weight.device), persistent=False)
        self.rows = nn.Parameter(weight.detach()[self.index].clone())
        self.original: Tensor | None = None

    @property
    def merged(self) -> bool:
        """Whether the table holds the rows already."""
        return self.original is not None

    @torch.no_grad()
    def merge(self, weight: nn.Parameter) -> None:
        """Write the rows into W; those that were there are kept."""
        if not self.merged:
            self.original = weight.detach()[self.index].clone()
            weight[self.index] = self.rows.to(weight.dtype)

    @torch.no_grad()
    def unmerge(self, weight: nn.Parameter) -> None:
        """Put W back, bit for bit."""
        if self.original is not None:
            weight[self.index] = self.original
            self.original = None

    def forward(self, weight: Tensor) -> Tensor:
        """W' for W."""
        return weight if self.merged else weight.index_copy(0, self.index, self.rows.to(weight.dtype))

    def extra_repr(self) -> str:
        return f"{len(self.rows)} of width {self.rows.shape[1]}"
