"""Documents that share rows, where a GPU knows them by their numbers: attention by torch's FlexAttention (Dong et al. 2024).

Shapes: B rows, T positions, N blocks of positions, H heads, K head dimension.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128  # positions that the kernel skips, masks or takes whole
NARROW = 16  # a head with fewer dimensions fills no product of the kernel

_failed = False


class Numbered:
    """The documents of a batch by the numbers (B, T) that their positions carry, of which nothing needs to be waited for."""

    def __init__(self, number: Tensor) -> None:
        self.number = number
        self._mask: Tensor | None = None
        self._blocks: dict[bool, BlockMask] = {}

    @property
    def mask(self) -> Tensor:
        """(B, 1, T, T): which keys a query sees, made once."""
        if self._mask is None:
            self._mask = (self.number[:, :, None] == self.number[:, None, :])[:, None]
        return self._mask

    def blocks(self, causal: bool) -> BlockMask:
        """The same for FlexAttention, made once."""
        if causal not in self._blocks:
            self._blocks[causal] = block_mask(self.number, causal)
        return self._blocks[causal]


def block_mask(number: Tensor, causal: bool) -> BlockMask:
    """Which blocks of keys a block of queries meets, by the least and the largest number in each.

    Two blocks whose numbers overlap may share a document, and a mask within them decides; where both lie in one document none
    is needed. So nothing of T x T is ever made, and where numbers rise along the row, as a loader gives them, no block is too
    many.
    """
    from torch.nn.attention.flex_attention import BlockMask

    time = number.shape[1]
    filled = torch.cat([number, number[:, -1:].expand(-1, -time % BLOCK)], dim=1)
    least, most = filled.unflatten(1, (-1, BLOCK)).aminmax(dim=2)
    met = (least[:, :, None] <= most[:, None, :]) & (least[:, None, :] <= most[:, :, None])
    whole = (least == most)[:, :, None] & (least == most)[:, None, :] & met
    count = met.shape[1]
    if causal:
        met, whole = met.tril(), whole.tril(-1)
    if time % BLOCK:  # the last block is not full
        inside = torch.arange(count, device=number.device) < count - 1
        whole = whole & inside & inside[:, None]

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = number[b, query] == number[b, key]
        return same & (query >= key) if causal else same

    part, full = (_in_order(blocks[:, None]) for blocks in (met & ~whole, whole))
    return BlockMask.from_kv_blocks(*part, *full, BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(time, time))


def _in_order(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has (B, 1, N), and which, those first (B, 1, N, N)."""
    return blocks.sum(-1, dtype=torch.int32), blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True).to(torch.int32)


def fits(q: Tensor, v: Tensor, dropout: float) -> bool:
    """Whether FlexAttention takes these, on this device, in this process."""
    if _failed or dropout or not q.is_cuda or q.shape[2] < BLOCK:
        return False
    return min(q.shape[3], v.shape[3]) >= NARROW and torch.cuda.get_device_capability(q.device) >= (8, 0)


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def flex(q: Tensor, k: Tensor, v: Tensor, documents: Numbered, causal: bool, scale: float, softcap: float | None) -> Tensor:
    """The kernel; on the processor, and inside `torch.compile`, the function that it is compiled from."""
    from torch.nn.attention.flex_attention import flex_attention

    def capped(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    run = _compiled() if q.is_cuda and not torch.compiler.is_compiling() else flex_attention
    score = None if softcap is None else capped
    grouped = k.shape[1] != q.shape[1]
    return run(q, k, v, score, documents.blocks(causal), scale=scale, enable_gqa=grouped)  # type: ignore[no-any-return]


def give_up(error: Exception) -> None:
    """Say that FlexAttention does not run here, and take other paths from now on."""
    global _failed
    _failed = True
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    warnings.warn(f"FlexAttention could not be compiled ({reason}); masks over whole rows instead", RuntimeWarning, stacklevel=3)
