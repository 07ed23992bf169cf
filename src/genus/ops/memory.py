"""Memory as the work wants it: freed buffers that are kept, shapes that are not, large pages for what is read at a stretch."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

import torch
from torch import Tensor

PAGE = 2**21  # bytes of a large page
LINE = 64  # bytes of a cache line
PRIMITIVES = 128  # of each of a few layers, as many as rows of a batch, and some of the last prompts
BLOCK = 32 * 2**20  # bytes that an arena asks for at once
_MADV_HUGEPAGE = 14  # of madvise(2)
_CAPACITY = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")
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


def keep_few_primitives() -> None:
    """Have oneDNN keep the last 128 primitives that it compiled, not the last 1024.

    It compiles one for every shape that it meets, of 0.2 MB for an LSTM and 0.5 MB for a product in bf16, and a program that
    reads texts of every length meets new shapes for ever. It asks the environment how many to keep when it first computes, which
    is within this call; where it has computed before, or the environment says a number, nothing changes.
    """
    if any(name in os.environ for name in _CAPACITY):
        return
    os.environ[_CAPACITY[0]] = str(PRIMITIVES)
    try:
        with torch.inference_mode():
            vector, row = torch.zeros(4), torch.zeros(1, 1, 1)
            torch.lstm(row, [row, row], [vector[:, None], vector[:, None], vector, vector], True, 1, 0.0, False, False, True)
    finally:
        del os.environ[_CAPACITY[0]]  # a process that this one starts may compute otherwise


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
