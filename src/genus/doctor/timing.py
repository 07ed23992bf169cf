"""How fast a call of an op is, and whether what it gives is what the op's definition gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import BoundArguments, signature
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils.flop_counter import FlopCounterMode

from genus.doctor.tour import Seen, mode
from genus.ops.dispatch import OPS, forced
from genus.ops.packed import Packed

SECONDS = 0.15  # for the turns of one call
LEAST, TURNS = 2, 20  # of them
NEAR = 0.05  # largest distance from the definition, as a part of its norm: integers of 8 and 4 bits come to 0.01


@dataclass(frozen=True)
class Speed:
    """Attributes:
    forward, backward: seconds, the least of the turns; None where there is no gradient. operations: floating-point operations
        of the forward pass by the op's definition, but for what a mask hides; 0 where torch counts none. bytes: that it reads and
        writes at least.
    distance: of the result from that of the definition, as a part of its norm; None where chance has a part in it.
    """

    forward: float
    backward: float | None
    operations: int
    bytes: int
    distance: float | None

    @property
    def right(self) -> bool:
        """Whether the result is that of the definition, as far as the precision goes."""
        return self.distance is None or self.distance <= NEAR


def measure(seen: Seen, device: torch.device) -> Speed:
    """Run a call again, a few times, and once by its definition."""
    with mode(seen.learns):
        leaves = [leaf for leaf in _pytree.tree_leaves(seen.arguments) if isinstance(leaf, Tensor)]
        wanted = [leaf for leaf, wants in zip(leaves, seen.wants, strict=True) if wants and seen.learns]
        for leaf in wanted:
            leaf.requires_grad_()
        given = BoundArguments(signature(seen.call.reference), seen.arguments)  # type: ignore[arg-type]
        call = partial(seen.call, *given.args, **given.kwargs)  # by place, as conditions of paths expect
        forward, backward, result = _least(call, wanted, device)
        distance, operations = _compared(seen, call, device)
        operations = round(operations * seen.call.needed(*given.args, **given.kwargs))
        held = [leaf for leaf in _pytree.tree_leaves((seen.arguments, result)) if isinstance(leaf, Tensor | Packed)]
        size = sum(leaf.bytes if isinstance(leaf, Packed) else leaf.numel() * leaf.element_size() for leaf in held)
        return Speed(forward, backward, operations, size, distance)


def _least(call: Callable[[], Any], wanted: list[Tensor], device: torch.device) -> tuple[float, float | None, Any]:
    """Least seconds forward and backward, and the result."""
    ahead, back, result = float("inf"), float("inf"), None
    begin = time.perf_counter()
    for turn in range(TURNS + 1):
        start = _now(device)
        result = call()
        middle = _now(device)
        if wanted:
            outputs = [t for t in _pytree.tree_leaves(result) if isinstance(t, Tensor) and t.requires_grad]
            torch.autograd.grad(outputs, wanted, [torch.ones_like(t) for t in outputs], allow_unused=True)
            end = _now(device)
        if turn:
            ahead = min(ahead, middle - start)
            back = min(back, end - middle) if wanted else back
            if turn >= LEAST and time.perf_counter() - begin > SECONDS:
                break
    return ahead, back if wanted else None, result


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _compared(seen: Seen, call: Callable[[], Any], device: torch.device) -> tuple[float | None, int]:
    """Distance from the definition, and the definition's operations."""
    before = _chances(device)
    found = _tensors(call())
    chance = _chances(device) != before
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), forced(**dict.fromkeys(OPS, "reference")), counter:
        defined = _tensors(call())
    packed = any(isinstance(leaf, Packed) for leaf in _pytree.tree_leaves(seen.arguments))
    operations = 0 if packed else int(counter.get_total_flops())  # the definition unpacks such weights first
    if chance:
        return None, operations
    return max(_distance(a, b) for a, b in zip(found, defined, strict=True)), operations


def _distance(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def _chances(device: torch.device) -> bytes:
    """Where the random numbers stand."""
    state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    return bytes(state.tolist())


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
