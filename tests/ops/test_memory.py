"""The allocator setting is optional and never fatal."""

from __future__ import annotations

import ctypes
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
