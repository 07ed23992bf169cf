"""Memory as the work wants it: freed buffers that are kept, and large pages for what is read from beginning to end."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import torch
from torch import Tensor

PAGE = 2**21  # bytes of a large page
LINE = 64  # bytes of a cache line
BLOCK = 32 * 2**20  # bytes that an arena asks for at once
_MADV_HUGEPAGE = 14  # of madvise(2)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameter numbers of mallopt(3)


@cache
def keep_freed_memory() -> bool:
    """Tell the C allocator to reuse freed memory instead of unmapping every buffer over 32 MB.

    Without it each large activation costs page faults on each step. Call it before the first large allocation, in a program
    that trains or generates; a program that merely imports genus is never affected.

    Returns:
        Whether the allocator took the settings (glibc on Linux only).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 256 * 2**20))
    accepted = [mallopt(name, value) == 1 for name, value in settings]  # every one is tried
    return all(accepted)


class Arena:
    """Memory in large pages, for weights that every step reads: the processor finds the next ones without looking pages up.

    Where the system knows no large pages, or gives none, it is ordinary memory. What an arena handed out keeps its block alive.
    """

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.uint8)

    def copy(self, tensor: Tensor) -> Tensor:
        """A dense copy of a tensor; the tensor itself where it is not in the processor's memory."""
        if tensor.device.type != "cpu" or not tensor.numel():
            return tensor
        size = tensor.numel() * tensor.element_size()
        if len(self._free) < size:
            self._free = _block(max(BLOCK, size))
        place, self._free = self._free[:size], self._free[-(-size // LINE) * LINE :]
        return place.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def _block(size: int) -> Tensor:
    """(at least `size`) bytes that begin with a large page."""
    block = torch.empty(-(-size // PAGE) * PAGE + PAGE, dtype=torch.uint8)
    block = block[-block.data_ptr() % PAGE :][: -(-size // PAGE) * PAGE]
    advise = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
    if advise is not None:
        advise(ctypes.c_void_p(block.data_ptr()), ctypes.c_size_t(len(block)), _MADV_HUGEPAGE)
    return block
