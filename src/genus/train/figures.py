"""What an update tells of itself, read when the device has come to it: by then the program may have asked for the next one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Figures:
    """The losses of an update and the norm of its gradients, on their way to the processor."""

    def __init__(self, losses: Sequence[Tensor], norm: Tensor) -> None:
        self.values = torch.stack([*losses, norm])
        cuda = self.values.is_cuda
        self._copy = self.values.to("cpu", non_blocking=cuda)
        self._arrived = torch.cuda.Event() if cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def read(self) -> tuple[float, float]:
        """The sum of the losses, and the norm. Waits until they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        *losses, norm = self._copy.tolist()
        return sum(losses), norm

    def refused(self, limit: float) -> Tensor:
        """A bool on the device: they are not all numbers, or the norm is above the limit."""
        return ~(self.values.isfinite().all() & (self.values[-1].double() <= limit))
