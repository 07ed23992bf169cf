"""What the machine can do, measured, and what the process takes."""

from __future__ import annotations

import os
import platform
import resource
import time
from typing import Any

import torch

from genus.train import processor


def matmul_ceiling(dtype: torch.dtype, device: torch.device, size: int = 1536, seconds: float = 0.3) -> float:
    """Best measured speed of a square matrix product in floating-point operations per second."""
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    a @ b
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        for _ in range(2):
            a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / 2)
    return 2 * size**3 / best


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


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in megabytes (device memory where one is used)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def describe() -> dict[str, Any]:
    """Facts about the machine and the versions, for `run.json`."""
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else processor.name()
    return {"device": name, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
