"""Keep glibc from giving large buffers back to the kernel between steps."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

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
