"""A tape: the kernels that a computation called, to be called again on other numbers in the same memory.

A step of decoding does little between two calls of a kernel, and the way through Python and torch takes longer than the kernels
of a small model. What they do is the same in every step, at the same addresses, as long as the rows stay the same. So one step is
recorded, as a graph of a GPU's kernels is captured, and the next ones are one call.

A computation can be recorded if all it computes is done by kernels of `ops.native`, or by the few operations of torch for which
there is such a kernel with the same result. Views and new tensors cost nothing and are allowed; anything else ends the recording.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from genus.ops import native, pointwise

MOST = 14  # arguments of a kernel, as in ops/cpu/replay.c
aten = torch.ops.aten
FREE = {
    *(aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.transpose.int, aten.permute.default),
    *(aten.expand.default, aten.unsqueeze.default, aten.squeeze.dim, aten.alias.default, aten.detach.default),
    *(aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int),
    *(aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default),
}
"""Views and new tensors. No slices: one that ends where a state does is longer in the next step."""


class Unrecordable(Exception):
    """What a tape cannot hold."""


class Tape:
    """Calls in their order, and the memory that they read and write."""

    def __init__(self) -> None:
        self._calls: list[int] = []
        self._arguments: list[Any] = []
        self._held: list[Any] = []
        self._table: np.ndarray[Any, np.dtype[np.int64]] | None = None
        self._places: Sequence[int] | None = None  # that stand in the table
        self._where = self._which = self._offset = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._calls) // (1 + MOST)

    def add(self, kernel: native.Kernel, arguments: Sequence[Any], held: Sequence[Any]) -> None:
        """Record a call.

        Raises:
            Unrecordable: it has more arguments than a replay passes on.
        """
        if len(arguments) > MOST:
            raise Unrecordable(f"a kernel of {len(arguments)} arguments")
        numbers = [ctypes.addressof(a) if isinstance(a, ctypes.Array) else int(a or 0) for a in arguments]
        self._calls += [kernel.address, *numbers, *[0] * (MOST - len(numbers))]
        self._arguments.append(arguments)
        self._held += held
        self._table = None

    def hold(self, thing: Any) -> None:
        """Keep a tensor as long as the tape."""
        self._held.append(thing)

    def loosen(self, tensors: Sequence[Tensor]) -> None:
        """These are kept no longer, and may lie elsewhere at every replay, which is told where: dense, or parts of one store."""
        stores = set(map(_store, tensors))
        self._held = [each for each in self._held if not (isinstance(each, Tensor) and _store(each) in stores)]
        calls = np.array(self._calls, np.int64)
        found = []
        for number, (start, size) in enumerate(map(_stretch, tensors)):
            where = ((calls >= start) & (calls < start + size)).nonzero()[0]
            found.append((where, np.full_like(where, number), calls[where] - start))
        self._where, self._which, self._offset = (np.concatenate(parts) for parts in zip(*found, strict=True))

    def replay(self, places: Sequence[int] | None = None) -> None:
        """Make all calls again. `places`: the addresses of the tensors that were loosened; None = where they were last."""
        if self._table is None:
            self._table, self._places = np.array(self._calls, np.int64), None
        if places is not None and places != self._places:
            self._table[self._where] = np.array(places, np.int64)[self._which] + self._offset
            self._places = places
        function = replayer()
        assert function is not None
        function(len(self), self._table.ctypes.data)


def _store(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _stretch(tensor: Tensor) -> tuple[int, int]:
    """Address and bytes from its first to its last number."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), (last + 1) * tensor.element_size()


def replayer() -> native.Kernel | None:
    """The kernel of `ops/cpu/replay.c`, or None where it cannot be had."""
    return native.kernel("replay", "genus_replay", "np")


class Recorder(TorchDispatchMode):
    """Within its block, what is computed is also written to the tape.

    Raises:
        Unrecordable: something that is not a kernel's work was computed, other than within `paused`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tape = Tape()
        self._paused = 0

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        """The result of some work; a replay writes it to the same place."""
        with native.heard(self._heard), self:
            result = work()
        self.tape.hold(result)
        return result

    def paused(self, work: Callable[[], Any]) -> Any:
        """The result of work that is not recorded, because somebody else sees to it before a replay."""
        self._paused += 1
        try:
            return work()
        finally:
            self._paused -= 1

    def _heard(self, kernel: native.Kernel, arguments: Sequence[Any], held: Sequence[Any]) -> None:
        if not self._paused:
            self.tape.add(kernel, arguments, held)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        tensors = [a for a in args if isinstance(a, Tensor)]
        if tensors and all(isinstance(a, torch.nn.Parameter) for a in tensors):  # the same in every step
            result = func(*args, **kwargs)
            self.tape.hold(result)
            return result
        if func in FREE:
            result = func(*args, **kwargs)
            if func is aten.reshape.default and result.data_ptr() != args[0].data_ptr():
                raise Unrecordable("a copy")
            return result
        if func is aten.slice.Tensor and (whole := func(*args, **kwargs)).shape == args[0].shape:
            return whole
        stand_in = STAND_INS.get(func)
        if stand_in is not None:
            return stand_in(*args, **kwargs)
        if func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        raise Unrecordable(str(func))


def _pointwise(what: int) -> Callable[..., Tensor]:
    def stand_in(a: Tensor, b: Tensor | None = None, **others: Any) -> Tensor:
        pair = (a,) if b is None else (a, b)
        for x in pair:
            if not isinstance(x, Tensor) or x.shape != a.shape or x.dtype != a.dtype or not native.reads(x):
                raise Unrecordable("operands of different kinds")
            if not x.is_contiguous():
                raise Unrecordable("operands that are not dense")
        if others:
            raise Unrecordable(f"{', '.join(others)}")
        return pointwise.run(what, a, b)

    return stand_in


_TWO, _THREE = ctypes.c_int64 * 2, ctypes.c_int64 * 3


def _put(kept: Tensor, indices: Sequence[Tensor | None], new: Tensor, accumulate: bool = False) -> Tensor:
    """kept[rows, :, columns] = new."""
    if len(indices) != 3 or indices[1] is not None or accumulate or kept.dim() != 4 or kept.dtype != new.dtype:
        raise Unrecordable("an assignment by index")
    rows, columns = indices[0], indices[2]
    assert rows is not None and columns is not None
    if rows.shape != columns.shape or rows.dim() != 1 or new.numel() != len(rows) * kept.shape[1] * kept.shape[3]:
        raise Unrecordable("an assignment by index")
    new = new.view(len(rows), kept.shape[1], kept.shape[3])  # torch has taken away dimensions of 1
    if not (kept.stride(3) == new.stride(2) == 1 and all(n.dtype == torch.int64 and n.is_contiguous() for n in (rows, columns))):
        raise Unrecordable("an assignment by index")
    function, size = native.kernel("rows", "genus_keep", "pppppp" + "nnn"), kept.element_size()
    assert function is not None
    function(
        kept.data_ptr(),
        _THREE(*(n * size for n in kept.stride()[:3])),
        rows.data_ptr(),
        columns.data_ptr(),
        new.data_ptr(),
        _TWO(*(n * size for n in new.stride()[:2])),
        len(new),
        new.shape[1],
        new.shape[2] * size,
        held=(kept, rows, columns, new),
    )
    return kept


def _scaled_or(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`product`, but of a tensor and a number."""

    def stand_in(a: Tensor, b: Tensor | float, **others: Any) -> Tensor:
        if isinstance(b, Tensor):
            return product(a, b, **others)
        if not native.reads(a) or not a.is_contiguous() or others:
            raise Unrecordable("a product with a number")
        return pointwise.scale(a, float(b))

    return stand_in


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Along the last dimension."""
    one = tensors[0]
    if dim not in (-1, one.dim() - 1) or any(not x.is_contiguous() or x.dtype != one.dtype for x in tensors):
        raise Unrecordable("a concatenation")
    y = one.new_empty(*one.shape[:-1], sum(x.shape[-1] for x in tensors))
    wide, size, start = y.shape[-1], one.element_size(), y.data_ptr()
    function = native.kernel("rows", "genus_copy", "pnpnnn")
    assert function is not None
    for x in tensors:
        own = x.shape[-1] * size
        function(start, wide * size, x.data_ptr(), own, y.numel() // wide, own, held=(x, y))
        start += own
    return y


def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """A copy of a single one."""
    if len(tensors) != 1:
        raise Unrecordable("a stack")
    return _cat([tensors[0].unsqueeze(dim)], -1)


def _convert(x: Tensor, **others: Any) -> Tensor:
    """Between bf16 and float32."""
    pair = {x.dtype, others.pop("dtype", None)}
    if others or pair != {torch.bfloat16, torch.float32} or not native.reads(x) or not x.is_contiguous():
        raise Unrecordable("a conversion")
    return pointwise.convert(x)


STAND_INS: dict[Any, Callable[..., Tensor]] = {
    aten.add.Tensor: _pointwise(pointwise.ADD),
    aten.mul.Tensor: _scaled_or(_pointwise(pointwise.MULTIPLY)),
    aten.relu.default: _pointwise(pointwise.RELU),
    aten.index_put_.default: _put,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten._to_copy.default: _convert,
}
"""Operations of torch for which there is a kernel with the same result."""
