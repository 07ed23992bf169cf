"""A fixed window over the past: the previous n inputs side by side (Bengio et al. 2003)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.parts.ctx import Ctx
from genus.spec import Spec


@dataclass(frozen=True)
class Window(Spec):
    """Concatenate the current input and the `size` - 1 before it; zeros stand before the first token of a document."""

    size: int = 4

    def width(self, dim: int) -> int:
        return self.size * dim

    class Module(nn.Module):
        def __init__(self, spec: Window, dim: int) -> None:
            super().__init__()
            self.size, self.dim = spec.size, dim

        def init_state(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
            shape = (batch, self.size - 1, self.dim)
            return {"inputs": torch.zeros(shape, dtype=dtype, device=device)}

        def forward(self, x: Tensor, ctx: Ctx, state: dict[str, Tensor] | None = None) -> Tensor:
            past = x.new_zeros(len(x), self.size - 1, self.dim) if state is None else state["inputs"].to(x.dtype)
            padded = torch.cat([past, x], dim=1)
            if state is not None:
                state["inputs"] = _last_tokens(padded, ctx.pad, self.size - 1).to(state["inputs"].dtype)
            time = x.shape[1]
            taps = []
            for back in range(self.size):
                tap = padded[:, self.size - 1 - back :][:, :time]
                if ctx.doc is not None and back:
                    tap = tap * (ctx.positions >= back).to(x.dtype)[..., None]
                taps.append(tap)
            return torch.cat(taps, dim=-1)


def _last_tokens(padded: Tensor, pad: Tensor | None, count: int) -> Tensor:
    """The last `count` inputs of every row that are not padding."""
    if pad is None:
        return padded[:, padded.shape[1] - count :]
    real = torch.cat([pad.new_ones(len(pad), padded.shape[1] - pad.shape[1]), ~pad], dim=1)
    index = torch.arange(padded.shape[1], device=pad.device)
    order = torch.where(real, index, -1).sort(dim=1).values[:, padded.shape[1] - count :]
    return padded.gather(1, order.clamp(min=0)[..., None].expand(-1, -1, padded.shape[2]))
