"""Ctx: what a sublayer may look at besides its input.

Built once per forward pass by the model; the only side channel between parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genus.ops.document_attention import Documents

PADDING = -1  # document id of a position that is not a token
CAUSAL, FULL, NOISE = (
    0,
    1,
    2,
)  # kinds of span: text, clean context seen whole, generation target seen by no other span


@dataclass
class Ctx:
    """Where each position is, which document it belongs to, and what it may cross-attend to.

    Attributes:
        positions: (time,) or (batch, time): index of the position inside its document.
        doc: (batch, time) document ids, -1 for padding; None = every row is one document without padding.
        start: number of positions already in the state; this call's first position is number `start`.
        key_doc: (batch, start + time) document ids of everything a query may look back at; None with `doc` None.
        last_doc: (batch,) document of the last token before this call; None at the start of a sequence.
        memory: (batch, source, dim) encoder output; memory_doc: (batch, source) its document ids or None.
        span, kind: (batch, time) span ids and their kinds (CAUSAL, FULL, NOISE); None = all causal text.
        cond: (batch, spans, dim) conditioning vectors, one per span id.
        shared: things that layers share within one forward pass (rotary tables, relative bias).
        layers: where the stack leaves what each of its layers reads, and its own output; None = nobody asks.
    """

    positions: Tensor
    doc: Tensor | None = None
    start: int = 0
    key_doc: Tensor | None = None
    last_doc: Tensor | None = None
    memory: Tensor | None = None
    memory_doc: Tensor | None = None
    span: Tensor | None = None
    kind: Tensor | None = None
    cond: Tensor | None = None
    shared: dict[Any, Any] = field(default_factory=dict)
    layers: list[Tensor] | None = None

    @cached_property
    def pad(self) -> Tensor | None:
        """(batch, time) bool: padding, which must leave every state untouched. None when there is none to honour."""
        if self.doc is None:
            return None
        pad = self.doc == PADDING
        return pad if bool(pad.any()) else None

    @cached_property
    def documents(self) -> Documents | None:
        """The documents of the rows, where attention had better look at each by itself than through a mask over whole rows.

        None also where the rows continue a state or hold spans.
        """
        if self.doc is None or self.doc.device.type != "cpu" or torch.compiler.is_compiling():  # elsewhere it would wait
            return None
        return None if self.start or self.span is not None else Documents.find(self.doc)

    @cached_property
    def fresh(self) -> Tensor | None:
        """(batch, time) bool: the position begins a document, so that whatever came before must be forgotten.

        None when no position does. The very first token of a sequence starts from an empty state and is not marked.
        """
        if self.doc is None:
            return None
        before = previous_document(self.doc, self.last_doc)
        fresh = (self.doc != before) & (self.doc != PADDING) & (before != PADDING)
        return fresh if bool(fresh.any()) else None


def previous_document(doc: Tensor, last: Tensor | None) -> Tensor:
    """(batch, time): document of the nearest earlier token, -1 where there is none. Padding is skipped."""
    first = doc.new_full((len(doc), 1), PADDING) if last is None else last[:, None].to(doc)
    shifted = torch.cat([first, doc[:, :-1]], dim=1)
    index = torch.arange(doc.shape[1], device=doc.device).expand_as(doc)
    real = torch.where(shifted != PADDING, index, index.new_zeros(()))
    return shifted.gather(1, real.cummax(1).values)


def document_positions(doc: Tensor) -> Tensor:
    """(batch, time): index of each token inside its document, counted from the document's first token; padding is not counted."""
    real = doc != PADDING
    count = real.cumsum(1)
    first = real & (doc != previous_document(doc, None))
    return (count - torch.where(first, count, count.new_zeros(())).cummax(1).values).clamp(min=0)


def attention_mask(ctx: Ctx, time: int, keys: int, causal: bool, window: int | None) -> Tensor | None:
    """Which keys each query may see: bool, broadcastable to (batch, 1, time, keys); True = may look.

    None when plain causal attention over exactly these keys, or full attention, is meant, so that the fused kernel is kept.

    Args:
        keys: number of keys, the last of which stands at the last query. window: a query sees itself and the window - 1 before.
    """
    windowed = window is not None and keys > window
    shifted = causal and time > 1 and keys != time
    if ctx.doc is None and ctx.span is None and not windowed and not shifted:
        return None
    key = ("mask", time, keys, causal, window)
    if key not in ctx.shared:
        ctx.shared[key] = _build_mask(ctx, time, keys, causal, window)
    return ctx.shared[key]  # type: ignore[no-any-return]


def _build_mask(ctx: Ctx, time: int, keys: int, causal: bool, window: int | None) -> Tensor:
    q = torch.arange(keys - time, keys, device=ctx.positions.device)[:, None]
    k = torch.arange(keys, device=ctx.positions.device)[None, :]
    see = (k <= q if causal else torch.ones_like(k <= q))[None]
    if ctx.span is not None and ctx.kind is not None:
        if keys != time:
            raise ValueError("spans need the whole sequence in one call")
        same = ctx.span[:, :, None] == ctx.span[:, None, :]
        see = (see | (same & (ctx.kind[:, None, :] != CAUSAL))) & (same | (ctx.kind[:, None, :] != NOISE))
    if window is not None:
        see = see & (q - k < window) & (causal | (k - q < window))
    if ctx.doc is not None and ctx.key_doc is not None:
        see = see & (ctx.doc[:, :, None] == ctx.key_doc[:, None, -keys:])
        see = see | (k == q)[None]  # a padding position looks at itself: no row of the softmax is empty
    return see[:, None]
