"""What attention keeps of a text, its keys and values: of the whole text, or of a window in a ring, however long that grows.

Of a whole text position p lies in column p; in a ring in column p % size, where it takes the place of a position that no query
will see again. The ring is a little larger than the window: so some new positions can be written before the first of them is
looked at, and guessed tokens can be taken back, while the window before them is still whole.

Shapes: B rows, T new positions, N positions before them, G key-value heads, S columns, K head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genus.parts.ctx import Ctx

SPARE = 64  # positions beyond the window: as many of the newest can be taken back


def ring_size(window: int) -> int:
    """Columns of the ring for a window: a multiple of 64."""
    return -(-(window + SPARE) // 64) * 64


def remember(k: Tensor, v: Tensor, ctx: Ctx, state: dict[str, Tensor], window: int | None, whole: bool) -> tuple[Tensor, Tensor]:
    """Store the keys and values (B, G, T, K) of this call in a state's "keys" and "values" (B, G, S, K).

    Args:
        window: of the attention, whose state is a ring; None = the state keeps the whole text, position p in column p.
        whole: all columns of the state are asked for, as `Ctx.spans` tells them; to a ring at most `SPARE` positions are new.

    Returns:
        All columns (B, G, S, K). Or else, of a whole text, (B, G, the most positions of any row, K); of a ring, (B, G, N + T, K)
        what the window of any new position reaches, the keys of each row in order up to its newest position, as `Ctx.aligned`
        tells them. N is at most window - 1; a row with fewer positions before this call has something meaningless there.

    Raises:
        ValueError: the state has too little room.
    """
    (batch, _, time, _), room = k.shape, state["keys"].shape[2]
    size = None if window is None else ring_size(window)
    end = ctx.start + time if ctx.ragged is None else ctx.ragged.end
    if end > room and room != size:
        raise ValueError(f"the state has room for {room} positions, not {end}; ask for a longer one")
    pairs, seen = ((state["keys"], k), (state["values"], v)), []
    if window is not None and size is not None and not whole:  # before they are written over
        before = min(window - 1, max(ctx.bounds(batch, time)[0]))
        seen = [_recent(kept, new, ctx, before, size) for kept, new in pairs]
    for kept, new in pairs:
        _put(kept, new, ctx, size)
    keys, values = seen or [(kept if whole else kept[:, :, :end]).to(new.dtype) for kept, new in pairs]
    return keys, values


def _recent(kept: Tensor, new: Tensor, ctx: Ctx, count: int, size: int) -> Tensor:
    """(B, G, count + T, K): of every row the last positions before this call, and the new ones."""
    new = new.to(kept.dtype).to(new.dtype)  # as they will be kept
    if not count:
        return new
    batch, time = new.shape[0], new.shape[2]

    def make(ctx: Ctx) -> tuple[Tensor, Tensor]:
        device = ctx.positions.device
        starts = torch.tensor(ctx.bounds(batch, time)[0], device=device)[:, None]
        places = starts - count + torch.arange(count, device=device)
        return torch.arange(batch, device=device)[:, None], places.clamp(min=0) % size

    rows, columns = ctx.once(("before a ring", time, count, size), make)
    return torch.cat([kept.transpose(1, 2)[rows, columns].transpose(1, 2).to(new.dtype), new], 2)


def _put(kept: Tensor, new: Tensor, ctx: Ctx, size: int | None) -> None:
    """Write to the columns (B, G, S, K) what will not be written over by this same call (B, G, T, K)."""
    if size is None and ctx.ragged is None:
        kept[:, :, ctx.start : ctx.start + new.shape[2]] = new
        return
    rows, columns, times = _columns(ctx, new.shape[0], new.shape[2], size)
    tokens = new.transpose(1, 2)
    tokens = tokens.flatten(0, 1) if times is None else tokens[rows, times]
    kept[rows, :, columns] = tokens.to(kept.dtype)


def _columns(ctx: Ctx, batch: int, time: int, size: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """(n,) the rows, columns, and places in this call, of the positions to be written; the last are None where all are."""
    if size is None:
        assert ctx.ragged is not None
        return ctx.ragged.rows, ctx.ragged.columns, ctx.ragged.times

    def make(ctx: Ctx) -> tuple[Tensor, ...]:
        ragged, device = ctx.ragged, ctx.positions.device
        if ragged is not None and ragged.times is None and time <= size:
            return ragged.rows, ragged.columns % size
        starts, ends = (torch.tensor(each, device=device)[:, None] for each in ctx.bounds(batch, time))
        places = starts + torch.arange(time, device=device)
        rows, times = ((places < ends) & (places >= ends - size)).nonzero(as_tuple=True)
        return rows, places[rows, times] % size, times

    rows, columns, *times = ctx.once(("ring", time, size), make)
    return rows, columns, times[0] if times else None
