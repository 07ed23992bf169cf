"""The allocator setting is optional and never fatal."""

from __future__ import annotations

import ctypes
import sys

import pytest

from genus.ops.memory import keep_freed_memory


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
