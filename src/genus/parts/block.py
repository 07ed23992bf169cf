"""Block: sublayers, their norms and the wiring that joins them. Stack: a pattern of blocks tiled over the depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from genus.ops.dropout import dropout
from genus.parts.attention import Attention
from genus.parts.ctx import Ctx
from genus.parts.mlp import MLP
from genus.parts.norm import Norm, RMSNorm
from genus.parts.positions import RelativeBias
from genus.parts.wiring import PreNorm, Wiring
from genus.spec import Spec

LayerState = list[dict[str, Tensor] | None]


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Block(Spec):
    """One layer. `dropout` falls on the output of every sublayer before it joins the stream."""

    parts: tuple[Spec, ...] = (Attention(), MLP())
    norm: Norm | None = RMSNorm()
    wiring: Wiring = PreNorm()
    dropout: float = 0.0

    def width(self, dim: int) -> int:
        for part in self.parts:
            dim = part.width(dim)
        return dim

    def _widths(self, dim: int) -> list[int]:
        widths = [dim]
        for part in self.parts:
            widths.append(part.width(widths[-1]))
        return widths[:-1]

    def parameters(self, dim: int) -> int:
        count = sum(part.parameters(w) for part, w in zip(self.parts, self._widths(dim), strict=True))
        return count + (sum(self.wiring.norms(len(self.parts))) * self.norm.parameters(dim) if self.norm else 0)

    def flops(self, dim: int, length: int) -> float:
        return sum(part.flops(w, length) for part, w in zip(self.parts, self._widths(dim), strict=True))

    class Module(nn.Module):
        def __init__(self, spec: Block, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.parts = nn.ModuleList(p.build(w) for p, w in zip(spec.parts, spec._widths(dim), strict=True))
            before, after = spec.wiring.norms(len(spec.parts)) if spec.norm else (0, 0)
            self.norms = nn.ModuleList(spec.norm.build(dim) for _ in range(before) if spec.norm)
            self.after = nn.ModuleList(spec.norm.build(dim) for _ in range(after) if spec.norm)

        def forward(self, h: Any, ctx: Ctx, state: LayerState | None = None) -> Any:
            n = len(self.spec.parts)
            parts = zip(self.parts, state or [None] * n, strict=True)
            fs = [partial(self._sublayer, part, ctx, own) for part, own in parts]
            norms: list[Any] = list(self.norms) or [_same]
            return self.spec.wiring.run(h, fs, norms * (n // len(norms)), list(self.after) or [_same] * n)

        def _sublayer(self, part: nn.Module, ctx: Ctx, state: dict[str, Tensor] | None, x: Tensor) -> Tensor:
            return dropout(part(x, ctx, state), self.spec.dropout, self.training)


@dataclass(frozen=True)
class Stack(Spec):
    """`depth` layers made by repeating the pattern `blocks`, then a final norm.

    Attributes:
        share: every layer that has the same place in the pattern has the same weights (ALBERT).
    """

    blocks: tuple[Block, ...] = (Block(),)
    depth: int = 4
    final: Norm | None = RMSNorm()
    share: bool = False

    def __post_init__(self) -> None:
        if self.depth < 1 or not self.blocks:
            raise ValueError(f"a stack needs at least one block and depth 1, not {len(self.blocks)} and {self.depth}")

    @property
    def relative_bias(self) -> tuple[RelativeBias, int] | None:
        """The relative bias its attentions share, and their number of heads."""
        for block in self.blocks:
            for part in block.parts:
                if isinstance(part, Attention) and isinstance(part.position, RelativeBias):
                    return part.position, part.heads
        return None

    def layers(self, dim: int) -> list[tuple[Block, int]]:
        """Every layer and the width of its input."""
        result = []
        for i in range(self.depth):
            block = self.blocks[i % len(self.blocks)]
            result.append((block, dim))
            dim = block.width(dim)
        return result

    def width(self, dim: int) -> int:
        block, dim = self.layers(dim)[-1]
        return block.width(dim)

    def parameters(self, dim: int) -> int:
        layers = self.layers(dim)[: len(self.blocks) if self.share else None]
        count = sum(block.parameters(w) for block, w in layers)
        count += self.final.parameters(self.width(dim)) if self.final else 0
        bias = self.relative_bias
        return count + (bias[0].buckets * bias[1] if bias else 0)

    def flops(self, dim: int, length: int) -> float:
        return sum(block.flops(w, length) for block, w in self.layers(dim))

    class Module(nn.Module):
        def __init__(self, spec: Stack, dim: int) -> None:
            super().__init__()
            self.spec = spec
            layers = spec.layers(dim)[: len(spec.blocks) if spec.share else None]
            self.layers = nn.ModuleList(block.build(w) for block, w in layers)
            self.final = spec.final.build(spec.width(dim)) if spec.final else None
            bias = spec.relative_bias
            self.relative_bias = bias[0].build(bias[1]) if bias else None

        def init_state(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> list[LayerState]:
            """A state for every mixer that has one: layers, then parts."""
            states: list[LayerState] = []
            for i in range(self.spec.depth):
                parts: Any = self.layers[i % len(self.layers)].parts
                states.append([p.init_state(batch, length, dtype, device) if hasattr(p, "init_state") else None for p in parts])
            return states

        def state_axes(self) -> list[list[dict[str, int]]]:
            """Of every tensor in a state that grows with the text, or with the source that is read: the dimension that does."""
            layers: list[Any] = [self.layers[i % len(self.layers)].parts for i in range(self.spec.depth)]
            return [[getattr(part, "state_axes", {}) for part in parts] for parts in layers]

        def read_source(self, memory: Tensor, memory_doc: Tensor | None, state: list[LayerState]) -> None:
            """Let every layer keep in the state what it needs of an encoder's output (B, S, D)."""
            for i, states in enumerate(state):
                parts: Any = self.layers[i % len(self.layers)].parts
                for part, own in zip(parts, states or (), strict=True):
                    if hasattr(part, "read_source"):
                        part.read_source(memory, memory_doc, own)

        def forward(self, x: Tensor, ctx: Ctx, state: list[LayerState] | None = None) -> Tensor:
            bias = self.spec.relative_bias
            if bias is not None and self.relative_bias is not None:
                bias[0].share(self.relative_bias, ctx)
            wiring = self.spec.blocks[0].wiring
            h = wiring.enter(x)
            for i in range(self.spec.depth):
                if ctx.layers is not None:
                    ctx.layers.append(wiring.seen(h))
                h = self.layers[i % len(self.layers)](h, ctx, None if state is None else state[i])
            y = wiring.leave(h, self.final or _same)
            if ctx.layers is not None:
                ctx.layers.append(y)
            return y
