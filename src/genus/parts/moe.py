"""Mixture of experts: each position is handled by a few of many channel mixers (Shazeer et al. 2017; Jiang et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.parts.ctx import Ctx
from genus.parts.linear import Linear
from genus.parts.mlp import MLP
from genus.spec import Spec


@dataclass(frozen=True)
class MoE(Spec):
    """The `top` experts of each position, weighted by a softmax over their router scores alone."""

    experts: int = 8
    top: int = 2
    expert: MLP = MLP(act="silu", gated=True)

    def __post_init__(self) -> None:
        if not 1 <= self.top <= self.experts:
            raise ValueError(f"top must lie between 1 and {self.experts} experts, not {self.top}")

    def parameters(self, dim: int) -> int:
        return dim * self.experts + self.experts * self.expert.parameters(dim)

    def flops(self, dim: int, length: int) -> float:
        return 2.0 * dim * self.experts + self.top * self.expert.flops(dim, length)

    class Module(nn.Module):
        def __init__(self, spec: MoE, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.router = Linear(dim, spec.experts)
            self.experts = nn.ModuleList(spec.expert.build(dim) for _ in range(spec.experts))

        def forward(self, x: Tensor, ctx: Ctx, state: None = None) -> Tensor:
            rows = x.reshape(-1, x.shape[-1])
            scores, choice = self.router(rows).float().topk(self.spec.top, dim=-1)
            weight = scores.softmax(-1).to(x.dtype).flatten()
            # Sort the (position, choice) pairs by expert: every expert then takes one contiguous slice.
            order = choice.flatten().argsort(stable=True)
            counts = torch.bincount(choice.flatten(), minlength=self.spec.experts).tolist()
            position = order // self.spec.top
            parts = rows[position].split(counts)
            y = torch.cat([expert(part, ctx) for expert, part in zip(self.experts, parts, strict=True)])
            return torch.zeros_like(rows).index_add_(0, position, y * weight[order, None]).view_as(x)
