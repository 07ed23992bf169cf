"""Ctx: what a sublayer may look at besides its input.

Built once per forward pass by the model; the only side channel between parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from genus.ops.decode_attention import PlacedSpans, Spans
from genus.ops.document_attention import Documents
from genus.ops.flex_documents import Numbered
from genus.ops.host import known, remembering
from genus.ops.tape import Unrecordable

S = TypeVar("S")
T = TypeVar("T")

PADDING = -1  # document id of a position that is not a token
CAUSAL, FULL, NOISE = (
    0,
    1,
    2,
)  # kinds of span: text, clean context seen whole, generation target seen by no other span


class kept(Generic[S, T]):
    """`functools.cached_property` without the lock that it has in Python 3.11, which torch.compile cannot take."""

    def __init__(self, make: Callable[[S], T]) -> None:
        self.make, self.__doc__ = make, make.__doc__

    def __get__(self, owner: S, kind: type) -> T:
        name = self.make.__name__
        value = self.make(owner)
        object.__setattr__(owner, name, value)
        return value


@dataclass(frozen=True)
class Ragged:
    """Rows that hold different numbers of positions in their state, as requests do that began at different times.

    Attributes:
        rows, times, columns: (n,) of every token, row by row: its row, its place in this call, and its place in the row; times
            None = there is no padding between them.
        bounds: positions of each row before and after this call; None = only the device knows them (`Ctx.placed`).
        end: the most positions of any row after this call; where only the device knows, how many a query may look back at.
    """

    rows: Tensor
    times: Tensor | None
    columns: Tensor
    bounds: tuple[tuple[int, ...], tuple[int, ...]] | None
    end: int


@dataclass
class Ctx:
    """Where each position is, which document it belongs to, and what it may cross-attend to.

    Attributes:
        positions: (time,) or (batch, time): index of the position inside its document.
        doc: (batch, time) document ids, -1 for padding; None = every row is one document without padding.
        start: number of positions already in the state; this call's first position is number `start`. Of `ragged` rows the most.
        key_doc: (batch, start + time) document ids of everything a query may look back at; None = all that is there, so with
            `doc` None, and where `doc` does no more than mark padding at the end of a row.
        last_doc: (batch,) document of the last token before this call; None at the start of a sequence.
        ragged: where the rows hold different numbers of positions; None = all hold `start`.
        before: (batch,) positions of each row before this call, where the keys of every row end with its own newest position;
            None = keys stand at the same places in all rows.
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
    ragged: Ragged | None = None
    before: tuple[int, ...] | None = None
    memory: Tensor | None = None
    memory_doc: Tensor | None = None
    span: Tensor | None = None
    kind: Tensor | None = None
    cond: Tensor | None = None
    shared: dict[Any, Any] = field(default_factory=dict)
    layers: list[Tensor] | None = None

    @classmethod
    def placed(cls, start: Tensor, time: int, end: int) -> Ctx:
        """Of `time` tokens of every row, behind so many positions of it (batch,): what is made of it waits for no device.

        `end`: as many positions or more than any row has after this call.
        """
        positions = start[:, None] + torch.arange(time, device=start.device)
        rows = torch.arange(len(start), device=start.device).repeat_interleave(time, output_size=len(start) * time)
        return cls(positions, ragged=Ragged(rows, None, positions.flatten(), None, end))

    @kept
    def pad(self) -> Tensor | None:
        """(batch, time) bool: padding, which must leave every state untouched. None when there is none to honour."""
        if self.doc is None:
            return None
        told = self.here.doc
        assert told is not None
        return self.doc == PADDING if torch.compiler.is_compiling() or bool((told == PADDING).any()) else None

    @kept
    def here(self) -> Ctx:
        """This call's documents in the processor's memory, where they are known there; a device would have to be waited for."""
        doc, last = (None if ids is None else known(ids) for ids in (self.doc, self.last_doc))
        if doc is None or doc is self.doc or (last is None and self.last_doc is not None):
            return self
        return Ctx(document_positions(doc), doc, last_doc=last)

    @kept
    def newest(self) -> Tensor:
        """(batch,) the place of each row's last token in this call, -1 where there is none."""
        assert self.doc is not None
        index = torch.arange(self.doc.shape[1], device=self.doc.device).expand_as(self.doc)
        return torch.where(self.doc != PADDING, index, -1).max(1).values

    @kept
    def ending(self) -> Tensor:
        """(batch,) document of the last token after this call: what will be `last_doc`."""
        assert self.doc is not None
        own = self.doc.gather(1, self.newest.clamp(min=0)[:, None])[:, 0]
        found = torch.where(self.newest >= 0, own, PADDING if self.last_doc is None else self.last_doc)
        return found if self.here is self else remembering(found, self.here.ending)

    @kept
    def documents(self) -> Documents | Numbered | None:
        """The documents of the rows, where attention had better look at each by itself than through a mask over whole rows.

        None also where the rows continue a state or hold spans. On another device than the processor they are not looked for,
        since that would wait for it.
        """
        if self.doc is None or self.start or self.span is not None:
            return None
        if not self.doc.is_cpu:
            return Numbered(self.doc)
        return None if torch.compiler.is_compiling() else Documents.find(self.doc)

    def once(self, key: Any, make: Callable[[Ctx], T]) -> T:
        """What the layers share, made when the first of them asks for it. `make` may look at nothing but its context."""
        key = self.before is None, key
        if key not in self.shared:
            self.shared[key] = make(self)
        return self.shared[key]  # type: ignore[no-any-return]

    @kept
    def aligned(self) -> Ctx:
        """This call for a layer that gets as many keys of every row, up to the row's newest position, wherever the row stands."""
        if self.ragged is None:
            return self
        return Ctx(self.positions, self.doc, before=self.bounds(*self.positions.shape)[0], shared=self.shared)

    def bounds(self, batch: int, time: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Positions of every row before this call, and after it; padding at the end of a row takes no place.

        Raises:
            Unrecordable: only the device knows them.
        """
        if self.ragged is not None:
            if self.ragged.bounds is None:
                raise Unrecordable("what depends on how long each row is")
            return self.ragged.bounds
        if self.key_doc is not None or self.pad is None:
            return (self.start,) * batch, (self.start + time,) * batch
        return (self.start,) * batch, tuple((self.start + time - self.pad.sum(1)).tolist())

    def spans(self, batch: int, time: int, keys: int, window: int | None, ring: int | None = None) -> Spans:
        """What the positions of this call see by causal attention, of `keys` keys that are kept.

        Documents and spans are not looked at. `ring`: key p lies in column p % ring; None = in column p.
        """

        def make(ctx: Ctx) -> Spans:
            if ctx.ragged is not None and ctx.ragged.bounds is None:
                return PlacedSpans(ctx.positions, keys, window, ring)
            alike = (ctx.start,) * batch, (ctx.start + time,) * batch
            starts, ends = alike if ctx.ragged is None else ctx.bounds(batch, time)
            stops = [[max(1, min(start + t + 1, end)) for t in range(time)] for start, end in zip(starts, ends)]
            pairs = [[(0 if window is None else max(0, stop - window), stop) for stop in row] for row in stops]
            if ring is not None:
                pairs = [[(start % ring, start % ring + stop - start) for start, stop in row] for row in pairs]
            return Spans(pairs, keys, ctx.positions.device)

        return self.once(("spans", time, keys, window, ring), make)

    @kept
    def fresh(self) -> Tensor | None:
        """(batch, time) bool: the position begins a document, so that whatever came before must be forgotten.

        None when no position does. The very first token of a sequence starts from an empty state and is not marked.
        """
        if self.doc is None:
            return None
        found = _begins(self.doc, self.last_doc)
        if torch.compiler.is_compiling():
            return found
        told = self.here
        begins = found if told is self or told.doc is None else _begins(told.doc, told.last_doc)
        return found if bool(begins.any()) else None


def _begins(doc: Tensor, last: Tensor | None) -> Tensor:
    """(batch, time) bool: a document begins that is not the first."""
    before = previous_document(doc, last)
    return (doc != before) & (doc != PADDING) & (before != PADDING)


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


def distances(ctx: Ctx, time: int, keys: int) -> Tensor:
    """(time, keys), or (batch, time, keys) of ragged rows: place of the key - place of the query, counted along the row.

    The last key stands at the last query; of ragged rows at the last of any row.
    """

    def make(ctx: Ctx) -> Tensor:
        device = ctx.positions.device
        first = keys - time if ctx.ragged is None else keys - ctx.ragged.end
        places = torch.arange(time, device=device) if ctx.ragged is None else ctx.positions
        return torch.arange(keys, device=device) - (places + first)[..., None]

    return ctx.once(("distances", time, keys), make)


def attention_mask(ctx: Ctx, time: int, keys: int, causal: bool, window: int | None) -> Tensor | None:
    """Which keys each query may see: bool, broadcastable to (batch, 1, time, keys); True = may look.

    None when plain causal attention over exactly these keys, or full attention, is meant, so that the fused kernel is kept.

    Args:
        keys: number of keys, the last of which stands at the last query. window: a query sees itself and the window - 1 before.
    """
    windowed = window is not None and keys > window
    shifted = causal and time > 1 and keys != time
    plain = ctx.key_doc is None and ctx.span is None and ctx.ragged is None and ctx.before is None
    if plain and not windowed and not shifted:
        return None
    return ctx.once(("mask", time, keys, causal, window), lambda ctx: _build_mask(ctx, time, keys, causal, window))


def _build_mask(ctx: Ctx, time: int, keys: int, causal: bool, window: int | None) -> Tensor:
    distance = distances(ctx, time, keys)
    see = distance <= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    see = see if see.dim() == 3 else see[None]
    if ctx.span is not None and ctx.kind is not None:
        if keys != time:
            raise ValueError("spans need the whole sequence in one call")
        same = ctx.span[:, :, None] == ctx.span[:, None, :]
        see = (see | (same & (ctx.kind[:, None, :] != CAUSAL))) & (same | (ctx.kind[:, None, :] != NOISE))
    if window is not None:
        see = see & (distance > -window) & (causal | (distance < window))
    if ctx.before is not None:
        before = torch.tensor(ctx.before, device=distance.device)
        see = see & (torch.arange(keys, device=distance.device) >= keys - time - before[:, None])[:, None]
    if ctx.doc is not None and ctx.key_doc is not None:
        see = see & (ctx.doc[:, :, None] == ctx.key_doc[:, None, -keys:])
        see = see | (distance == 0)  # a padding position looks at itself: no row of the softmax is empty
    return see[:, None]
