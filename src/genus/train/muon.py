"""Muon (Jordan et al. 2024) that treats matrices of one shape together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from genus.ops.newton_schulz import newton_schulz

TOGETHER = 2**19  # numbers at most of the matrices that are treated together, so that they stay in the cache


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, its state and its arithmetic, with updates rescaled to AdamW's root mean square (Liu et al. 2025).

    torch takes matrix after matrix, and where they are small the calls take longer than the products.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(params, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for matrices in _together(p for p in group["params"] if p.grad is not None):
                rows, columns = matrices[0].shape
                found = newton_schulz(torch.stack([self._momentum(p, momentum) for p in matrices]))
                for p, update in zip(matrices, found, strict=True):
                    p.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-0.2 * max(rows, columns) ** 0.5 * lr)
        return loss

    def _momentum(self, p: Tensor, momentum: float) -> Tensor:
        """Nesterov's: the mean of the gradients so far, moved on towards this one."""
        state = self.state[p]
        assert p.grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p.grad)
        state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["momentum_buffer"], momentum)


def _together(parameters: Iterator[Tensor]) -> Iterator[list[Tensor]]:
    """Matrices of one shape, device and precision, as many as `TOGETHER` allows, one at least."""
    alike: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
    for p in parameters:
        alike[p.shape, p.device, p.dtype].append(p)
    for matrices in alike.values():
        count = max(1, TOGETHER // max(1, matrices[0].numel()))
        yield from (matrices[i : i + count] for i in range(0, len(matrices), count))
