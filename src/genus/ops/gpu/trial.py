"""A kernel that is run to see whether kernels run."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _double(x: tl.tensor, y: tl.tensor, SIZE: tl.constexpr) -> None:
    place = tl.arange(0, SIZE)
    tl.store(y + place, 2 * tl.load(x + place))


def trial(device: torch.device) -> None:
    """Compile it and run it.

    Raises:
        RuntimeError: the kernels are not made for this GPU, or the result is wrong. What compiler and driver raise comes through.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise RuntimeError("kernels are made for GPUs of compute capability 8.0 and later")
    x = torch.arange(16, dtype=torch.float32, device=device)
    y = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _double[(1,)](x, y, SIZE=16)
    if not torch.equal(y, 2 * x):
        raise RuntimeError("a kernel gave a wrong result")
