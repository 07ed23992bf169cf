"""A device that is not there: its tensors lie in the processor's memory, and may be used only as those of a GPU may.

What a GPU refuses is refused here: tensors of two devices in one operation, numbers drawn on it by a generator of another device,
a NumPy array or an address of its memory. What makes the processor wait for a GPU is noted: `waits`. So code that has run here
creates its tensors where it should. How fast it is, and whether a GPU's own kernels are right, this cannot tell.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

DEVICE = torch.device("lazy", 0)  # a kind that no build of torch computes on, and whose gradients need no threads of their own
PARTS = torch._C.DispatchKey.CompositeImplicitAutograd
COPIES = (aten._to_copy, aten.copy_)
SIZED_BY_VALUES = (aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.bincount)
BY_INDEX = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)


class Wait(NamedTuple):
    """Where the processor would have waited for the device. places: lines of Genus, the innermost last."""

    operation: str
    places: tuple[str, ...]


class There(torch.Tensor):
    """A tensor of the pretended device; `here` is what it holds."""

    here: Tensor
    waits: list[Wait] = []  # noqa: RUF012 - of the one device

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        made: There = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=DEVICE
        )
        made.here = here
        return made

    def __repr__(self, **_: Any) -> str:
        return f"There({self.here})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def data_ptr(self) -> int:
        raise RuntimeError("the processor does not read what lies at an address of the device")

    def untyped_storage(self) -> Any:
        """So that it can be told which tensors share one."""
        return self.here.untyped_storage()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Sees the operations that make tensors too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if torch.is_inference_mode_enabled() and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), PARTS):
        with _Everywhere():  # in inference mode an operation that is made of others comes whole
            return func._op_dk(PARTS, *args, **kwargs)
    given: list[Tensor] = []

    def here(x: Any) -> Any:
        if isinstance(x, Tensor):
            given.append(x)
        return x.here if isinstance(x, There) else x

    ours, options = _mapped(here, args), {k: _mapped(here, v) for k, v in kwargs.items()}
    there = [t for t in given if isinstance(t, There)]
    wanted = options.get("device")
    result_there = bool(there) if wanted is None else torch.device(wanted).type == DEVICE.type
    if func.overloadpacket in COPIES:
        result_there = isinstance(args[0], There) if func.overloadpacket is aten.copy_ else result_there
        if isinstance(given[-1], There) != result_there and not (options.get("non_blocking") or True in args[2:]):
            _note(func)
    elif there:
        for t in given:
            if not isinstance(t, There) and t.dim() > 0:
                shapes = f"{tuple(t.shape)} of the processor and {tuple(there[0].shape)} of the device"
                raise RuntimeError(f"{func}: tensors of two devices, {shapes}")
        if func.overloadpacket is aten._local_scalar_dense:
            _note(func)
            return func(*ours)
        masks = func.overloadpacket in BY_INDEX and any(t is not None and t.dtype == torch.bool for t in args[1])
        repeats = func.overloadpacket is aten.repeat_interleave and options.get("output_size") is None
        if masks or repeats or func.overloadpacket in SIZED_BY_VALUES:
            _note(func)
    if result_there and isinstance(options.get("generator"), torch.Generator):
        raise RuntimeError(f"{func}: a generator of the processor draws no numbers on the device")
    if wanted is not None and result_there:
        options["device"] = torch.device("cpu")
    found = func(*ours, **options)
    if torch.Tag.inplace_view in func.tags and result_there:  # it has changed the shape of what lies here
        args[0].data = There(found)
    own = {id(t.here): t for t in there}  # what an operation writes to is its result

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if id(x) in own:
            return own[id(x)]
        with torch.inference_mode(x.is_inference()):  # a view of a tensor that may learn is one too
            return There(x)

    return _mapped(wrapped, found) if result_there else found


def _mapped(function: Callable[[Any], Any], values: Any) -> Any:
    if isinstance(values, list | tuple):
        return type(values)([_mapped(function, x) for x in values])
    return function(values)


def _note(func: Any) -> None:
    frames = [f for f in traceback.extract_stack() if "/genus/" in f.filename and "/tests/" not in f.filename]
    places = (f"{f.filename.split('/genus/')[-1]}:{f.lineno} {f.name}" for f in frames)
    There.waits.append(Wait(str(func), tuple(places)))


@contextmanager
def pretended() -> Iterator[list[Wait]]:
    """Within the block, Genus computes on the pretended device. Yields the waits, as they come."""
    swaps, lifts = torch.__future__.get_swap_module_params_on_conversion(), torch._C._only_lift_cpu_tensors()
    There.waits = waits = []
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("genus.") and hasattr(module, "default_device"):
                patch.setattr(module, "default_device", lambda: DEVICE)
        fused = ["cpu", "cuda", DEVICE.type]
        patch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: fused)
        torch.__future__.set_swap_module_params_on_conversion(True)  # tied weights stay one, as they do on their way to a GPU
        torch._C._set_only_lift_cpu_tensors(True)
        try:
            with _Everywhere():
                yield waits
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swaps)
            torch._C._set_only_lift_cpu_tensors(lifts)
