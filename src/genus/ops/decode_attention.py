"""Attention of a few new positions per row over the keys and values that a state holds: a step of decoding.

Shapes: B rows, T new positions, H heads, G key-value heads, S keys, K head dimension.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.attention import attention
from genus.ops.dispatch import Op

FEW = 16  # new positions up to which keys and values are read once for each
WIDEST = 256  # head dimension of the kernel in C
PAYS = 32768  # bytes of keys and values that nobody uses, per row, from which on a call for each row is the cheaper way

Pair = tuple[int, int]


class Spans:
    """Which keys every new position sees: position t of row b those from pairs[b][t][0] to before pairs[b][t][1], at least one.

    Keys may lie in a ring: behind key S - 1 comes key 0 again, as number S.

    Attributes:
        keys: S. plain: every position sees all keys. round: some position sees keys from the end of the ring and its beginning.
            unused: keys that no position of their row sees.
    """

    def __init__(self, pairs: Sequence[Sequence[Pair]], keys: int, device: torch.device) -> None:
        self.pairs, self.keys, self.device = pairs, keys, device
        self.plain = all(pair == (0, keys) for row in pairs for pair in row)
        self.round = any(stop > keys for row in pairs for _, stop in row)
        self.unused = sum(keys - row[-1][1] + row[0][0] for row in pairs)

    @cached_property
    def table(self) -> Tensor:
        """(B, T, 2)."""
        return torch.tensor(self.pairs, dtype=torch.int64, device=self.device)

    @cached_property
    def mask(self) -> Tensor:
        """(B, 1, T, S)."""
        place = torch.arange(self.keys, device=self.device)
        start, stop = self.table[..., None].unbind(2)
        return ((place - start) % self.keys < stop - start)[:, None]


class PlacedSpans(Spans):
    """Spans that are worked out where the positions are, for nobody to wait for: each sees what stands before it, and itself.

    Args:
        positions: (B, T). window: what a position sees of that, itself included; None = all. ring: key p lies in column p % ring.
    """

    def __init__(self, positions: Tensor, keys: int, window: int | None, ring: int | None) -> None:
        self.keys, self.device, self.plain, self.round, self.unused = keys, positions.device, False, ring is not None, 0
        stop = positions + 1
        start = torch.zeros_like(stop) if window is None else (stop - window).clamp(min=0)
        if ring is not None:
            start, stop = start % ring, start % ring + (stop - start)
        self.table = torch.stack([start, stop], -1)

    @cached_property
    def pairs(self) -> Sequence[Sequence[Pair]]:  # type: ignore[override]
        return [[(start, stop) for start, stop in row] for row in self.table.tolist()]


@Op
def decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spans: Spans,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """`attention` with the mask of `spans`.

    Args:
        q: (B, H, T, K). k, v: (B, G, S, K). bias: additive, broadcastable to (B, H, T, S). The rest as of `attention`.

    Returns:
        (B, H, T, K).
    """
    mask = bias
    if not spans.plain:
        mask = spans.mask if bias is None else bias.masked_fill(~spans.mask, torch.finfo(q.dtype).min)
    return attention(q, k, v, mask, False, scale, softcap)


@decode_attention.needs
def _seen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spans: Spans,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> float:
    """The share of the keys that the new positions see."""
    seen = [stop - start for row in spans.pairs for start, stop in row]
    return sum(seen) / (len(seen) * spans.keys)


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "heads", "groups", "time", "keys", "head")]
    _fields_ += [(f"{of}_{name}", ctypes.c_int64) for of in "qkv" for name in ("row", "head", "place")]
    _fields_ += [(f"bias_{name}", ctypes.c_int64) for name in ("row", "head", "place")]
    _fields_ += [("scale", ctypes.c_float), ("softcap", ctypes.c_float)]


def kernel() -> native.Kernel | None:
    """The kernel of `ops/cpu/decode_attention.c`, or None where it cannot be had."""
    return native.kernel("decode_attention", "genus_decode_attention", "pnppppppn")


def _fits_native(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spans: Spans,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> bool:
    if not q.dtype == k.dtype == v.dtype or q.shape[3] > WIDEST or q.shape[3] != v.shape[3]:
        return False
    if bias is not None and spans.round:
        return False
    return native.reads(q, k, v, *(() if bias is None else (bias,))) and kernel() is not None


@decode_attention.path("native", when=_fits_native)
def _native(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spans: Spans,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """The kernel in C, which reads what each row sees and no more, and every key once for all queries that share it."""
    (rows, heads, time, head), groups = q.shape, k.shape[1]
    q, k, v = (t if t.stride(3) == 1 else t.contiguous() for t in (q, k, v))
    strides: list[int] = [n for t in (q, k, v) for n in t.stride()[:3]]
    if bias is not None:
        bias = bias.float().expand(rows, heads, time, spans.keys)
        bias = bias if bias.stride(3) == 1 else bias.contiguous()
    strides += (0, 0, 0) if bias is None else bias.stride()[:3]
    shape = _Shape(rows, heads, groups, time, spans.keys, head, *strides, scale, softcap or 0.0)
    y = q.new_empty(rows, time, heads, head)
    function = kernel()
    assert function is not None
    function(
        ctypes.addressof(shape),
        q.dtype == torch.bfloat16,
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        spans.table.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
        held=(shape, q, k, v, spans, bias, y),
    )
    return y.transpose(1, 2)


def reads_spans(q: Tensor, ring: bool = False) -> bool:
    """Whether keys that no query sees need not be cut off, since they cost nothing; of a ring, since the others were copied."""
    if ring and not q.is_cpu:
        return True
    return native.computes(q) and kernel() is not None and decode_attention.may_take("native")


def _far_apart(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spans: Spans,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> bool:
    column = k.shape[1] * (k.shape[3] + v.shape[3]) * k.element_size()
    return q.device.type == "cpu" and q.shape[2] == 1 and not spans.round and spans.unused * column > PAYS * len(q)


@decode_attention.path("by row", when=_far_apart)
def _by_row(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spans: Spans,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """Each row by itself, so that none pays for the keys of the longest. T = 1."""
    found = []
    for row, ((start, stop),) in enumerate(spans.pairs):
        own = None if bias is None else bias[row % len(bias), None, ..., start:stop]
        one = slice(row, row + 1)
        found.append(attention(q[one], k[one, :, start:stop], v[one, :, start:stop], own, False, scale, softcap))
    return torch.cat(found)
