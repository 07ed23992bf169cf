"""Numbers of a batch that are known without waiting for a device.

What a GPU computes is ready some time after it was asked for. A question about it (is there any padding?) holds the program up
until then, while the GPU runs out of work. A batch is made by the processor, so its numbers are here before they are there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """`x` on a device. A copy that goes to another one is not waited for, and remembers `x`."""
    if x.device == device:
        return x
    y = (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)
    return remembering(y, x)


def remembering(there: Tensor, here: Tensor | None) -> Tensor:
    """`there`, of which `known` then gives `here`: the same numbers."""
    if here is not None:
        there.genus_known = here  # type: ignore[attr-defined]
    return there


def known(x: Tensor) -> Tensor | None:
    """The same numbers in the processor's memory; None where they would have to be waited for."""
    if x.is_cpu:
        return x
    return None if torch.compiler.is_compiling() else getattr(x, "genus_known", None)


def both(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`change(x)`, of which `known` gives the change of what it gives of `x`."""
    here = known(x)
    return change(x) if here is None or here is x else remembering(change(x), change(here))


def places(x: Tensor, chosen: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Indices on the device of `x`, one for each dimension, of the places at which `chosen(x)` is true."""
    here = known(x)
    if here is None:
        return chosen(x).nonzero(as_tuple=True)
    return tuple(sent(index, x.device) for index in chosen(here).nonzero(as_tuple=True))
