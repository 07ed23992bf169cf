"""Attention inside documents that share rows: each sees itself alone, and nothing is computed between two of them.

Shapes: B rows, T positions, H heads, K head dimension, N positions of all documents together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from genus.ops import flex_documents
from genus.ops.attention import attention
from genus.ops.dispatch import Op
from genus.ops.flex_documents import Numbered

PAYS = 4  # a mask over whole rows costs so many times the scores that the documents need, or it is the cheaper way
ALIKE, SHORT = 0.75, 8  # shares a group: so large a part of the group's length, or so few positions less


class Group(NamedTuple):
    """Documents of like length, padded to the longest. seen: (documents, 1, 1, length) the keys that are there; None = all."""

    documents: int
    length: int
    seen: Tensor | None


class Documents:
    """Where the documents of a batch stand.

    Attributes:
        spans: (documents, 3) row, first position and the one after the last, in the order of the rows.
        groups: of like length; few, since each costs a number of small operations.
        order: (N,) their positions in the flattened rows, group by group. padded: the same with the padding of each group, which
            repeats the document's last position. real: (N,) which of `padded` are no padding; None = all. rows, time: B and T.
    """

    def __init__(self, spans: Tensor, rows: int, time: int) -> None:
        self.spans, self.rows, self.time = spans, rows, time
        row, start, stop = spans.unbind(1)
        lengths, by_length = (stop - start).sort()
        first = (row * time + start)[by_length]
        self.groups: list[Group] = []
        parts, real = [], []
        for a, b in _alike(lengths.tolist()):
            own, longest = lengths[a:b, None], int(lengths[b - 1])
            place = torch.arange(longest, device=spans.device)
            seen = place < own
            uneven = bool(lengths[a] != longest)
            self.groups.append(Group(b - a, longest, seen[:, None, None] if uneven else None))
            parts.append((first[a:b, None] + place.minimum(own - 1)).flatten())
            real.append(seen.flatten())
        self.padded, kept = torch.cat(parts), torch.cat(real)
        self.real = None if bool(kept.all()) else kept.nonzero()[:, 0]
        self.order = self.padded if self.real is None else self.padded[self.real]
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


def _alike(lengths: list[int]) -> list[tuple[int, int]]:
    """Runs (first, one after the last) of rising lengths that may share a group."""
    runs, stop = [], len(lengths)
    while stop:
        longest = lengths[stop - 1]
        start = next((i for i in range(stop) if lengths[i] >= ALIKE * longest or longest - lengths[i] <= SHORT), stop)
        runs.append((start, stop))
        stop = start
    return runs[::-1]


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
    documents: Documents | Numbered,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """`attention` with the mask that lets every position see its own document; positions of no document give what they like.

    Args:
        documents: of the rows of q (B, H, T, K), k and v; by their numbers on a device that answers no questions. The rest as of
            `attention`.
    """
    return attention(q, k, v, documents.mask, causal, scale, softcap, dropout)


@document_attention.needs
def _seen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents | Numbered,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> float:
    """The share of the pairs of two positions that are in one document, and where causal in their order."""
    if isinstance(documents, Numbered):
        return attention.needed(q, k, v, documents.mask, causal)
    length = (documents.spans[:, 2] - documents.spans[:, 1]).double()
    pairs = length * (length + 1) / 2 if causal else length.square()
    return float(pairs.sum()) / (documents.rows * documents.time**2)


class _Take(torch.autograd.Function):
    """Rows (M, ...) of `x` by number, of which only the `real` ones get a gradient, each once: no sums in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, documents: Documents) -> Tensor:
        ctx.documents, ctx.shape = documents, x.shape
        return x.index_select(0, documents.padded)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        documents: Documents = ctx.documents
        grad = grads[0] if documents.real is None else grads[0].index_select(0, documents.real)
        return grad.new_zeros(ctx.shape).index_copy_(0, documents.order, grad), None


def _fits_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents | Numbered,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> bool:
    return isinstance(documents, Numbered) and flex_documents.fits(q, v, dropout)


@document_attention.path("flex", when=_fits_flex)
def _flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents | Numbered,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """FlexAttention, which skips blocks of keys that no query of a block sees. Where it cannot be compiled, the definition."""
    assert isinstance(documents, Numbered) and not dropout
    try:
        return flex_documents.flex(q, k, v, documents, causal, scale, softcap)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler raises
        flex_documents.give_up(error)
        return document_attention.reference(q, k, v, documents, causal, scale, softcap)


@document_attention.path("by length", when=lambda q, k, v, documents, *_, **__: isinstance(documents, Documents))
def _by_length(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents | Numbered,
    causal: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Documents of like length as a batch of their own."""
    assert isinstance(documents, Documents)
    batch, heads, time = q.shape[:3]
    sizes = [group.documents * group.length for group in documents.groups]
    flat = (_Take.apply(t.transpose(1, 2).reshape(batch * time, *t.shape[1::2]), documents).split(sizes) for t in (q, k, v))
    found = []
    for (count, length, seen), *parts in zip(documents.groups, *flat, strict=True):
        own = (part.view(count, length, *part.shape[1:]).transpose(1, 2) for part in parts)
        y = attention(*own, seen, causal and length > 1, scale, softcap, dropout)  # type: ignore[call-arg]
        found.append(y.transpose(1, 2).reshape(count * length, heads, -1))
    y = torch.cat(found)
    y = y if documents.real is None else y.index_select(0, documents.real)
    whole = y.new_zeros(batch * time, heads, y.shape[-1]).index_copy(0, documents.order, y)
    return whole.view(batch, time, heads, -1).transpose(1, 2)
