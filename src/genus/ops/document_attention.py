"""Attention inside documents that share rows: each sees itself alone, and nothing is computed between two of them.

Shapes: B rows, T positions, H heads, K head dimension, N positions of all documents together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genus.ops.attention import attention
from genus.ops.dispatch import Op

PAYS = 4  # a mask over whole rows costs so many times the scores that the documents need, or it is the cheaper way


class Documents:
    """Where the documents of a batch stand.

    Attributes:
        spans: (documents, 3) row, first position and the one after the last, in the order of the rows.
        order: (N,) their positions in the flattened rows, documents of equal length side by side. groups: (documents, length) of
            each length. rows, time: B and T.
    """

    def __init__(self, spans: Tensor, rows: int, time: int) -> None:
        self.spans, self.rows, self.time = spans, rows, time
        row, start, stop = spans.unbind(1)
        lengths, by_length = (stop - start).sort()
        first = (row * time + start)[by_length]
        shift = torch.repeat_interleave(first - (lengths.cumsum(0) - lengths), lengths)
        self.order = torch.arange(len(shift), device=spans.device) + shift
        kinds, counts = lengths.unique_consecutive(return_counts=True)
        self.groups: list[tuple[int, int]] = list(zip(counts.tolist(), kinds.tolist()))
        self._mask: Tensor | None = None

    @classmethod
    def find(cls, doc: Tensor) -> Documents | None:
        """The documents of document ids (B, T); None where one is not in one piece, or a mask is the cheaper way."""
        spans = stretches(doc)
        if not len(spans):
            return None
        row, start, stop = spans.unbind(1)
        if doc.numel() * doc.shape[1] < PAYS * int((stop - start).square().sum()):
            return None
        numbers = doc[row, start]
        keys = row * (int(numbers.max()) + 1) + numbers
        return cls(spans, *doc.shape) if len(keys.unique()) == len(keys) else None

    @property
    def mask(self) -> Tensor:
        """(B, 1, T, T): which keys a query sees; a position of no document sees itself."""
        if self._mask is None:
            number = torch.full((self.rows * self.time,), -1, device=self.order.device)
            for i, (row, start, stop) in enumerate(self.spans.tolist()):
                number[row * self.time + start : row * self.time + stop] = i
            number = number.view(self.rows, self.time)
            same = (number[:, :, None] == number[:, None, :]) & (number >= 0)[:, :, None]
            self._mask = (same | torch.eye(self.time, dtype=torch.bool, device=same.device))[:, None]
        return self._mask


def stretches(doc: Tensor) -> Tensor:
    """(documents, 3) row, first position and the one after the last of every run of equal document ids (B, T) but -1."""
    edge = doc.new_full((len(doc), 1), -1)
    before, behind = torch.cat([edge, doc[:, :-1]], 1), torch.cat([doc[:, 1:], edge], 1)
    begins, ends = ((doc != beside) & (doc != -1) for beside in (before, behind))
    return torch.cat([begins.nonzero(), ends.nonzero()[:, 1:] + 1], 1)


@Op
def document_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """`attention` with the mask that lets every position see its own document; positions of no document give what they like.

    Args:
        documents: of the rows of q (B, H, T, K), k and v. The rest as of `attention`.
    """
    return attention(q, k, v, documents.mask, causal, scale, softcap, dropout)


class _Take(torch.autograd.Function):
    """Rows (M, ...) by number, each at most once: no sums in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        ctx.shape = x.shape
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return grads[0].new_zeros(ctx.shape).index_copy_(0, order, grads[0]), None


@document_attention.path("by length", when=lambda q, *_, **__: q.device.type == "cpu" and not torch.compiler.is_compiling())
def _by_length(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Documents of equal length as a batch of their own: as many batches as there are lengths, and no mask."""
    batch, heads, time = q.shape[:3]
    sizes = [count * length for count, length in documents.groups]
    flat = (_Take.apply(t.transpose(1, 2).reshape(batch * time, *t.shape[1::2]), documents.order).split(sizes) for t in (q, k, v))
    found = []
    for (count, length), *parts in zip(documents.groups, *flat, strict=True):
        own = (part.view(count, length, *part.shape[1:]).transpose(1, 2) for part in parts)
        y = attention(*own, None, causal and length > 1, scale, softcap, dropout)  # type: ignore[call-arg]
        found.append(y.transpose(1, 2).reshape(count * length, heads, -1))
    y = torch.cat(found)
    whole = y.new_zeros(batch * time, heads, y.shape[-1]).index_copy(0, documents.order, y)
    return whole.view(batch, time, heads, -1).transpose(1, 2)
