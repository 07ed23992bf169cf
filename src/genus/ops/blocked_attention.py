"""Attention in blocks of queries, in torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genus.ops import pairs
from genus.ops.dropout import dropout as drop
from genus.ops.first_order import first_order
from genus.ops.heads import like_projections

BLOCK = 128  # queries at a time on the CPU


class Blocked(torch.autograd.Function):
    """Blocks of queries as batched matrix products, which skip the keys that a block cannot see.

    torch's fused CPU kernel is 2.5 to 3.5 times slower, most of it in its backward pass. The attention weights are kept for the
    backward pass in the precision of `q`: time x keys / 2 numbers per head.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float,
        dropout: float,
        window: int | None,
        bias: Tensor | None,
    ) -> Tensor:
        (batch, heads, time, head), keys = q.shape, k.shape[2]
        y = like_projections(q)
        q = q.reshape(-1, time, head) * scale
        k, v = (t.reshape(-1, keys, head) for t in (k, v))
        mask = None if mask is None else mask.expand(*mask.shape[:-2], time, keys)
        saved: list[Tensor] = []
        for block, see in _blocks(time, keys, causal, window):
            scores = torch.bmm(q[:, block], k[:, see].mT)
            if bias is not None:
                scores = (scores.unflatten(0, (batch, heads)) + pairs.added(bias.float(), block, see, keys)).flatten(0, 1)
            if mask is not None:
                scores.unflatten(0, (batch, heads)).masked_fill_(~mask[..., block, see], float("-inf"))
            if causal:
                partly = block if window is None else see  # the other keys are seen by the whole block
                hidden = pairs.hidden(block, partly, window, q.device)
                scores[..., partly.start - see.start :].masked_fill_(hidden, float("-inf"))
            p = scores.softmax(-1).to(q.dtype)
            kept = drop(torch.ones_like(p), dropout) if dropout else None
            weights = p if kept is None else p * kept
            y[:, :, block] = torch.bmm(weights, v[:, see]).view(batch, heads, -1, head)
            saved += [p] if kept is None else [p, kept]
        ctx.save_for_backward(q, k, v, *saved)
        ctx.shape, ctx.scale, ctx.dropout = (batch, heads, time, head), scale, dropout
        ctx.blocks = list(_blocks(time, keys, causal, window))
        ctx.bias = None if bias is None else bias.dtype
        return y

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        batch, heads, time, head = ctx.shape
        g = grads[0].reshape(-1, time, head)
        dq, dk, dv = (like_projections(t.unflatten(0, (batch, heads))) for t in (q, k, v))
        sums = [torch.zeros_like(t, dtype=torch.float32) for t in (k, v)]
        d_bias = None if ctx.bias is None else torch.zeros(heads, time + k.shape[1] - 1)
        per_block = 2 if ctx.dropout else 1
        for i, (block, see) in enumerate(ctx.blocks):
            p, kept = saved[per_block * i], saved[per_block * i + 1] if ctx.dropout else None
            dp = torch.bmm(g[:, block], v[:, see].mT)
            dv_part = torch.bmm((p if kept is None else p * kept).mT, g[:, block])
            ds = torch._softmax_backward_data(dp if kept is None else dp * kept, p, -1, p.dtype)
            rows = torch.bmm(ds, k[:, see]).view(batch, heads, -1, head)
            dq[:, :, block] = rows.mul_(ctx.scale)
            if d_bias is not None:
                of_pairs = ds.unflatten(0, (batch, heads)).sum(0, dtype=torch.float32)
                d_bias.index_add_(1, (pairs.back(block, see, q.device) + k.shape[1] - 1).flatten(), of_pairs.flatten(1))
            for total, part in zip(sums, (torch.bmm(ds.mT, q[:, block]), dv_part), strict=True):
                total[:, see] += part
        for d, total in zip((dk, dv), sums, strict=True):
            d.copy_(total.view(d.shape))
        return dq, dk, dv, None, None, None, None, None, None if d_bias is None else d_bias.to(ctx.bias)


def _blocks(time: int, keys: int, causal: bool, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries, and the keys that any query of the block may see."""
    for start in range(0, time, BLOCK):
        stop = min(start + BLOCK, time)
        yield slice(start, stop), slice(0 if window is None else max(0, start - window + 1), stop if causal else keys)
