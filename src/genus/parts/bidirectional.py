"""A mixer that reads forwards beside one that reads backwards (Schuster & Paliwal 1997)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.parts.ctx import PADDING, Ctx
from genus.parts.recurrent import Recurrent
from genus.spec import Spec


@dataclass(frozen=True)
class Bidirectional(Spec):
    """Two copies of `mixer` with weights of their own; what they say about a position stands side by side, forward first."""

    mixer: Recurrent = Recurrent()

    def width(self, dim: int) -> int:
        return 2 * self.mixer.width(dim)

    def parameters(self, dim: int) -> int:
        return 2 * self.mixer.parameters(dim)

    def flops(self, dim: int, length: int) -> float:
        return 2 * self.mixer.flops(dim, length)

    class Module(nn.Module):
        def __init__(self, spec: Bidirectional, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.forwards, self.backwards = spec.mixer.build(dim), spec.mixer.build(dim)

        def forward(self, x: Tensor, ctx: Ctx, state: dict[str, Tensor] | None = None) -> Tensor:
            ahead = self.forwards(x, ctx)
            if ctx.doc is None:
                return torch.cat([ahead, self.backwards(x.flip(1), ctx).flip(1)], dim=-1)
            place = mirrored(ctx.doc)[..., None]
            turned = self.backwards(x.gather(1, place.expand_as(x)), ctx)
            return torch.cat([ahead, turned.gather(1, place.expand_as(turned))], dim=-1)


def mirrored(doc: Tensor) -> Tensor:
    """(batch, time): for each token, the place of the one as far from their document's end as it is from the beginning.

    The same map leads back. Padding stays where it is.
    """
    index = torch.arange(doc.shape[1], device=doc.device).expand_as(doc)
    upwards = (doc * len(index[0]) * 2 + index).argsort(1)
    downwards = torch.where(doc == PADDING, doc * len(index[0]) * 2 + index, doc * len(index[0]) * 2 + len(index[0]) - index)
    return torch.empty_like(index).scatter_(1, upwards, downwards.argsort(1))
