"""The allocator setting is optional and never fatal."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest
import torch

from genus.ops.memory import LINE, PAGE, Arena, keep_freed_memory


def test_says_whether_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Glibc:
        @staticmethod
        def mallopt(name: int, value: int) -> int:
            calls.append((name, value))
            return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Glibc)
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is True
    assert dict(calls) == {-4: 0, -1: -1, -2: 256 * 2**20}  # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    assert keep_freed_memory() and len(calls) == 3  # once per process
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # musl has no mallopt
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is False
    keep_freed_memory.cache_clear()


def test_an_arena_copies_side_by_side_and_outlives_itself() -> None:
    arena = Arena()
    wanted = [torch.randn(3, 5).bfloat16(), torch.arange(200_000).view(2, -1, 4), torch.tensor([7], dtype=torch.uint8)]
    wanted += [torch.randn(9 * 2**20), torch.randn(4, 4).T]  # larger than a block; not dense
    copies = [arena.copy(tensor) for tensor in wanted]
    first = copies[0].data_ptr()
    assert first % PAGE == 0 and copies[1].data_ptr() == first + LINE and copies[3].data_ptr() % PAGE == 0
    del arena
    for tensor, copy in zip(wanted, copies, strict=True):
        assert torch.equal(copy, tensor) and copy.is_contiguous() and copy.data_ptr() != tensor.data_ptr()
        assert copy.data_ptr() % LINE == 0
    nothing, elsewhere = torch.empty(0, 3), torch.empty(2, device="meta")
    assert Arena().copy(nothing) is nothing and Arena().copy(elsewhere) is elsewhere


def test_an_arena_without_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert torch.equal(Arena().copy(torch.ones(5)), torch.ones(5))


@pytest.mark.skipif(sys.platform != "linux" or not torch.backends.mkldnn.is_available(), reason="oneDNN on Linux only")
@pytest.mark.parametrize("told", [None, "400"])
def test_new_shapes_take_no_more_and_more_memory(told: str | None) -> None:
    """Of a process that has computed nothing yet, where the environment says nothing: what it says holds."""
    code = """
import os, torch
from genus.ops.memory import PRIMITIVES, keep_few_primitives

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def run(shapes):
    for time in shapes:
        torch.lstm(torch.ones(1, time, 8), [torch.zeros(1, 1, 8)] * 2, weights, True, 1, 0.0, False, False, True)

before = dict(os.environ)
keep_few_primitives()
assert dict(os.environ) == before
weights = [torch.ones(32, 8), torch.ones(32, 8), torch.ones(32), torch.ones(32)]
with torch.inference_mode():
    run(range(1, PRIMITIVES + 20))
    begin = resident()
    run(range(PRIMITIVES + 20, PRIMITIVES + 80))
print((resident() - begin) / 2**20)
"""
    environment = {name: value for name, value in os.environ.items() if "PRIMITIVE_CACHE" not in name}
    environment |= {} if told is None else {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": told}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    grown = float(done.stdout)
    assert grown < 3 if told is None else grown > 6
