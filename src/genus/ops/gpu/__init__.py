"""Kernels in Triton for a GPU: compiled on first use, kept in Triton's cache, never required.

Builds of torch for CUDA bring Triton. Nothing of it is imported before a tensor on a GPU asks for it. Where it does not work
(no Triton, a GPU that it does not know, no C compiler for what calls its kernels), other paths run, and one warning says why.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def computes(x: Tensor) -> bool:
    """Whether a kernel may work on this: on an NVIDIA GPU on which kernels work, in a precision that they know."""
    if not x.is_cuda or x.dtype not in DTYPES or torch.version.hip:
        return False
    return torch.compiler.is_compiling() or works(x.device)  # a compiler needs Triton itself, and cannot look into a trial


@cache
def works(device: torch.device) -> bool:
    """Whether a kernel has been compiled and has run on this device; one warning where not."""
    try:
        from genus.ops.gpu.trial import trial

        trial(device)
    except Exception as error:  # compilers, drivers and other builds of Triton fail in ways of their own
        what = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(f"Triton does not work on {device} ({what[0]}); slower paths run instead", RuntimeWarning, stacklevel=3)
        return False
    return True
