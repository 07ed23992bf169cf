"""CUDA graphs without a GPU: what a captured computation calls is called again, on the same memory and with the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genus.ops import native
from genus.ops.graph import Graphs, Waitless
from genus.ops.tape import Unrecordable

HOST = {
    torch.ops.aten.lift_fresh.default,
    torch.ops.aten.lift_fresh_copy.default,
}  # a list becomes a tensor: a copy to the device


class _Calls(TorchDispatchMode):
    """Keeps every operation with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in HOST:
            raise Unrecordable(f"{func} reads the processor's memory")
        if func.namespace == "aten" and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        found = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, [t for t in tree_leaves(found) if isinstance(t, Tensor)]))
        return found

    def launch(self) -> None:
        for func, args, kwargs, results in self.calls:
            again = [t for t in tree_leaves(func(*args, **kwargs)) if isinstance(t, Tensor)]
            for old, new in zip(results, again, strict=True):
                assert old.shape == new.shape and old.dtype == new.dtype
                if old.data_ptr() != new.data_ptr():  # neither a view, nor written in place
                    old.copy_(new)


class Emulated(Graphs):
    """In the place of `Graphs`. captured: what was captured so far."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.captured: list[_Calls] = []

    def send(self, host: Tensor, there: Tensor) -> None:
        there.copy_(host)

    def capture(self, work: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        work()
        with Waitless():
            work()
        calls = _Calls()
        with calls:
            results = work()
        for each in results:  # a capture computes nothing
            each.fill_(torch.nan)
        self.captured.append(calls)
        return calls.launch, results


def as_on_a_gpu(patch: pytest.MonkeyPatch) -> None:
    """Without kernels in C, which no graph could hold; a ring is read as it lies."""
    patch.setattr(native, "kernel", lambda *_: None)
    patch.setattr("genus.parts.attention.reads_spans", lambda q, ring=False: ring)
