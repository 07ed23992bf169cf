"""A ring of keys and values: what attention over a window keeps of a text, however long that grows.

Position p lies in column p % size, where it takes the place of a position that no query will see again. The ring is a little
larger than the window: so some new positions can be written before the first of them is looked at, and guessed tokens can be
taken back, while the window before them is still whole.

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


def remember(k: Tensor, v: Tensor, ctx: Ctx, state: dict[str, Tensor], window: int, whole: bool) -> tuple[Tensor, Tensor]:
    """Store the keys and values (B, G, T, K) of this call in the rings of a state, "keys" and "values" (B, G, S, K).

    Args:
        whole: at most `SPARE` positions are new, and the rings themselves are asked for, as `Ctx.spans` tells them.

    Returns:
        The rings (B, G, S, K), or (B, G, N + T, K) what the window of any new position reaches, the keys of each row in order up
        to its newest position, as `Ctx.aligned` tells them. N is at most window - 1; a row with fewer positions before this call
        has something meaningless there.

    Raises:
        ValueError: the state has too little room.
    """
    size, (batch, _, time, _), room = ring_size(window), k.shape, state["keys"].shape[2]
    starts, ends = ctx.bounds(batch, time)
    if max(ends) > room < size:
        raise ValueError(f"the state has room for {room} positions, not {max(ends)}; ask for a longer one")
    before = 0 if whole else min(window - 1, max(starts))
    seen = [_recent(state[name], new, ctx, before, size) for name, new in (("keys", k), ("values", v)) if not whole]
    for name, new in (("keys", k), ("values", v)):
        _put(state[name], new, ctx, size)
    keys, values = seen or (state["keys"].to(k.dtype), state["values"].to(v.dtype))
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


def _put(kept: Tensor, new: Tensor, ctx: Ctx, size: int) -> None:
    """Write to the ring (B, G, S, K) what will not be written over by this same call (B, G, T, K)."""
    batch, time = new.shape[0], new.shape[2]

    def make(ctx: Ctx) -> tuple[Tensor, ...]:
        """The rows, columns, and places in this call, of the positions to be written; the last are left out where all are."""
        ragged, device = ctx.ragged, ctx.positions.device
        if ragged is not None and ragged.times is None and time <= size:
            return ragged.rows, ragged.columns % size
        starts, ends = (torch.tensor(each, device=device)[:, None] for each in ctx.bounds(batch, time))
        places = starts + torch.arange(time, device=device)
        rows, times = ((places < ends) & (places >= ends - size)).nonzero(as_tuple=True)
        return rows, places[rows, times] % size, times

    rows, columns, *times = ctx.once(("ring", time, size), make)
    tokens = new.transpose(1, 2)
    tokens = tokens[rows, times[0]] if times else tokens.flatten(0, 1)
    kept[rows, :, columns] = tokens.to(kept.dtype)
