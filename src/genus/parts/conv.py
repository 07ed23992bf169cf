"""A short causal convolution of every channel with its own few weights, as before the keys of DeltaNet and Mamba."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.ops.activation import activation
from genus.ops.short_conv import short_conv, short_conv_step
from genus.parts.ctx import Ctx
from genus.spec import Spec


@dataclass(frozen=True)
class ShortConv(Spec):
    """act(depthwise convolution over the current input and the `size` - 1 before it in the same document)."""

    size: int = 4
    act: str | None = "silu"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a convolution over {self.size} positions is impossible; set size to 1 or more")

    def parameters(self, dim: int) -> int:
        return dim * self.size

    def flops(self, dim: int, length: int) -> float:
        return 2.0 * dim * self.size

    class Module(nn.Module):
        """Its weight has the shape of `nn.Conv1d`'s, (dim, 1, size), and its start: Init leaves it alone."""

        def __init__(self, spec: ShortConv, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.weight = nn.Parameter(torch.empty(dim, 1, spec.size).uniform_(-(spec.size**-0.5), spec.size**-0.5))
            self.weight.keep_init = True  # type: ignore[attr-defined]

        def init_state(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
            """The last `size` - 1 inputs."""
            shape = (batch, self.spec.size - 1, len(self.weight))
            return {"inputs": torch.zeros(shape, dtype=dtype, device=device)}

        def forward(self, x: Tensor, ctx: Ctx, state: dict[str, Tensor] | None = None) -> Tensor:
            past = x.new_zeros(len(x), self.spec.size - 1, x.shape[2]) if state is None else state["inputs"].to(x.dtype)
            if state is not None and x.shape[1] == 1 and ctx.pad is None and ctx.fresh is None:
                y, state["inputs"] = short_conv_step(x, self.weight[:, 0], past)
                return y if self.spec.act is None else activation(self.spec.act, y)
            order, fresh = _real_first(ctx.pad), ctx.fresh
            if order is not None:
                x = _take(x, order)
                fresh = None if fresh is None else fresh.gather(1, order)
            y = short_conv(x, self.weight[:, 0], past, fresh)
            if state is not None:
                state["inputs"] = _last(past, x, ctx.pad, fresh).to(state["inputs"].dtype)
            if order is not None:
                y = _take(y, order.argsort(dim=1))
            return y if self.spec.act is None else activation(self.spec.act, y)


def _real_first(pad: Tensor | None) -> Tensor | None:
    """(B, T): the order that brings tokens before padding. None where they stand so already; a compiler cannot ask."""
    if pad is None or not (torch.compiler.is_compiling() or bool((pad[:, :-1] & ~pad[:, 1:]).any())):
        return None
    return pad.to(torch.int8).argsort(dim=1, stable=True)


def _take(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order[..., None].expand_as(x))


def _last(past: Tensor, x: Tensor, pad: Tensor | None, fresh: Tensor | None) -> Tensor:
    """The newest inputs of the last document, as many as `past` has, zeros before them; padding of `x` stands at its end."""
    count, padded = past.shape[1], torch.cat([past, x], dim=1)
    if pad is None and fresh is None:
        return padded[:, padded.shape[1] - count :]
    tokens = x.shape[1] if pad is None else (~pad).sum(1, keepdim=True)
    index = (tokens + torch.arange(count, device=x.device)).expand(len(x), -1)
    last = padded.gather(1, index[..., None].expand(-1, -1, padded.shape[2]))
    if fresh is None:
        return last
    place = torch.arange(count, count + x.shape[1], device=x.device)
    border = torch.where(fresh, place, 0).amax(1, keepdim=True)
    return last.masked_fill((index < border)[..., None], 0)
