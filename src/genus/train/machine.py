"""What torch computes with here, in which precision, how fast that is, measured, and how much memory it took.

What the system itself tells of the processor is in `genus.ops.processor`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch

from genus.ops import processor


def matmul_ceiling(
    dtype: torch.dtype, device: torch.device, seconds: float = 0.3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Best measured speed of a large square matrix product in floating-point operations per second.

    Args:
        seconds: how long to look, twice at least. clock: what times the product.
    """
    size = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    float((a @ b)[0, 0])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = clock()
        float((a @ b)[0, 0])  # an accelerator has finished when its number is here
        times.append(clock() - start)
    return 2 * size**3 / min(times)


def memory_ceiling(device: torch.device, size: int = 256 * 2**20, rounds: int = 6) -> float:
    """Best measured speed in bytes per second at which `size` bytes are read: those of a vector that is summed."""
    x = torch.ones(size // 4, device=device)
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        float(x.sum())
        best = min(best, time.perf_counter() - start)
    return size / best


def compute_dtype(name: str, device: torch.device) -> torch.dtype:
    """Precision of the activations: "bf16", "fp32", or "auto" = bf16 where the processor multiplies it natively."""
    if name == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_bf16()
        return torch.bfloat16 if native else torch.float32
    choices = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if name not in choices:
        raise ValueError(f"--dtype must be auto, bf16 or fp32, not {name}")
    return choices[name]


def _cpu_bf16() -> bool:
    flags = torch.backends.cpu.get_cpu_capability()
    if "AVX512" not in flags:
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed(number: int, device: torch.device) -> None:
    """`torch.manual_seed`; of the processor alone without the rest of it, which takes longer than a layer of a small model."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(number)
    else:
        torch.manual_seed(number)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in megabytes (device memory where one is used)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return processor.peak_resident() / 2**20


def describe() -> dict[str, Any]:
    """Facts about the machine and the versions, for `run.json`."""
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else processor.name()
    return {"device": name, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
