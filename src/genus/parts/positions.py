"""How a model knows where a token stands: rotary angles, ALiBi, T5's relative bias, sinusoids, a learned table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.parts.ctx import Ctx, distances
from genus.spec import Spec


@dataclass(frozen=True)
class Position(Spec):
    """What attention accepts as its position scheme; use one of its children."""


@dataclass(frozen=True)
class RotaryScaling(Spec):
    """LLaMA-3.1's frequency scaling: slow frequencies are divided by `factor`, fast ones kept, those between interpolated."""

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    context: int = 8192

    def frequencies(self, inverse: Tensor) -> Tensor:
        """Scaled inverse frequencies (n,)."""
        turns = self.context * inverse / (2 * math.pi)
        smooth = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return inverse * (smooth + (1 - smooth) / self.factor)


@dataclass(frozen=True)
class Rotary(Position):
    """Rotary embedding (Su et al. 2021) over the first `share` of every head."""

    theta: float = 10000.0
    share: float = 1.0
    scaling: RotaryScaling | None = None

    def tables(self, ctx: Ctx, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin, (time, n) or (batch, 1, time, n), n = head_dim * share / 2; made once per forward pass."""

        n = int(head_dim * self.share)

        def make(ctx: Ctx) -> tuple[Tensor, Tensor]:
            if ctx.ragged is None:
                cos, sin = self._turned(ctx.positions, n, dtype)
            else:  # rows that are decoded ask again for every token
                known = _first(self, n, dtype, ctx.positions.device, max(1024, 1 << ctx.ragged.end.bit_length()))
                ctx.shared["table", self, n, dtype] = known  # a step that is captured with this context reads them ever after
                cos, sin = (F.embedding(ctx.positions, table) for table in known)
            return (cos[:, None], sin[:, None]) if cos.dim() == 3 else (cos, sin)

        return ctx.once((self, head_dim, dtype), make)

    def _turned(self, positions: Tensor, n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin (..., n / 2) of positions (...)."""
        even = torch.arange(0, n, 2, device=positions.device, dtype=torch.float32)
        inverse = self.theta ** (-even / n)
        if self.scaling is not None:
            inverse = self.scaling.frequencies(inverse)
        angle = positions.float()[..., None] * inverse
        return angle.cos().to(dtype), angle.sin().to(dtype)


@lru_cache(8)
def _first(rotary: Rotary, n: int, dtype: torch.dtype, device: torch.device, count: int) -> tuple[Tensor, Tensor]:
    """cos and sin (count, n / 2) of the first positions."""
    with torch.inference_mode(False):  # so that they may stand in any computation
        return rotary._turned(torch.arange(count, device=device), n, dtype)


@dataclass(frozen=True)
class Alibi(Position):
    """Attention with linear biases (Press et al. 2022)."""

    def bias(self, ctx: Ctx, heads: int, time: int, keys: int) -> Tensor:
        """(1, heads, time, keys), or (batch, ...) of ragged rows, float32; made once per forward pass."""

        def make(ctx: Ctx) -> Tensor:
            made = _slopes if torch.compiler.is_compiling() else _kept_slopes
            return made(heads, ctx.positions.device) * _by_head(distances(ctx, time, keys)).float()

        return ctx.once((self, heads, time, keys), make)

    def by_distance(self, ctx: Ctx, heads: int, time: int, causal: bool) -> Tensor:
        """(heads, 2 time - 1) float32, of as many keys as queries; see `ops.attention`."""
        made = _slopes if torch.compiler.is_compiling() else _kept_slopes
        return ctx.once((self, heads, time), lambda ctx: made(heads, ctx.positions.device)[:, 0] * _forward(ctx, time))


def _slopes(heads: int, device: torch.device) -> Tensor:
    """(heads, 1, 1)."""
    n = 2 ** math.floor(math.log2(heads))
    first, others = (torch.arange(count, dtype=torch.float64, device=device) for count in (n, heads - n))
    return torch.cat([-8 * (first + 1) / n, -4 * (2 * others + 1) / n]).exp2().float()[:, None, None]


@cache
def _kept_slopes(heads: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # of use with and without gradients
        return _slopes(heads, device)


@dataclass(frozen=True)
class RelativeBias(Position):
    """T5's bucketed relative position bias (Raffel et al. 2020). One table per stack, shared by its layers."""

    buckets: int = 32
    max_distance: int = 128

    class Module(nn.Module):
        """A table (buckets, heads)."""

        def __init__(self, spec: RelativeBias, heads: int) -> None:
            super().__init__()
            self.spec = spec
            self.weight = nn.Parameter(torch.empty(spec.buckets, heads))

        def forward(self, distance: Tensor, causal: bool) -> Tensor:
            """(heads, ...) of distances (...)."""
            return self.weight[self.spec.bucket(distance, causal)].movedim(-1, 0)

    def bucket(self, distance: Tensor, causal: bool) -> Tensor:
        """Bucket of `distance` = key position - query position: exact when near, logarithmic when far."""
        buckets, offset = self.buckets, torch.zeros_like(distance)
        if causal:
            distance = (-distance).clamp(min=0)
        else:
            buckets //= 2
            offset = (distance > 0) * buckets
            distance = distance.abs()
        exact = buckets // 2
        far = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact) * (buckets - exact)
        return offset + torch.where(distance < exact, distance, (exact + far.long()).clamp(max=buckets - 1))

    def by_distance(self, ctx: Ctx, heads: int, time: int, causal: bool) -> Tensor:
        """(heads, 2 time - 1), of as many keys as queries; see `ops.attention`."""
        return ctx.once((self, time, causal), lambda ctx: ctx.shared[self](_forward(ctx, time), causal))  # type: ignore[no-any-return]

    def share(self, table: Callable[[Tensor, bool], Tensor], ctx: Ctx) -> None:
        """Offer the stack's table to the layers of this forward pass."""
        ctx.shared[self] = table

    def bias(self, ctx: Ctx, time: int, keys: int, causal: bool) -> Tensor:
        """(1, heads, time, keys), or (batch, ...) of ragged rows; made once per forward pass."""

        def make(ctx: Ctx) -> Tensor:
            bias: Tensor = ctx.shared[self](distances(ctx, time, keys), causal)
            return bias[None] if bias.dim() == 3 else bias.movedim(1, 0)

        return ctx.once((self, time, keys, causal), make)


def _forward(ctx: Ctx, time: int) -> Tensor:
    """(2 time - 1) how far the key lies behind the query, from the farthest on."""
    return torch.arange(time - 1, -time, -1, device=ctx.positions.device)


def _by_head(x: Tensor) -> Tensor:
    """(time, keys) or (batch, time, keys) to (1 or batch, 1, time, keys)."""
    return x[None, None] if x.dim() == 2 else x[:, None]


@dataclass(frozen=True)
class Absolute(Spec):
    """A vector per position, added to the token embedding; use one of its children."""


@dataclass(frozen=True)
class LearnedPositions(Absolute):
    """A trained vector for each of `length` positions. `offset`: rows of the table before the first position's (RoBERTa: 2)."""

    length: int = 1024
    offset: int = 0

    def parameters(self, dim: int) -> int:
        return (self.length + self.offset) * dim

    class Module(nn.Module):
        def __init__(self, spec: LearnedPositions, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.weight = nn.Parameter(torch.empty(spec.length + spec.offset, dim))

        def forward(self, positions: Tensor) -> Tensor:
            return nn.functional.embedding(positions + self.spec.offset, self.weight)


@dataclass(frozen=True)
class Sinusoidal(Absolute):
    """Sinusoids of geometric wavelengths (Vaswani et al. 2017, section 3.5)."""

    class Module(nn.Module):
        def __init__(self, spec: Sinusoidal, dim: int) -> None:
            super().__init__()
            self.dim = dim

        def forward(self, positions: Tensor) -> Tensor:
            even = torch.arange(0, self.dim, 2, device=positions.device, dtype=torch.float32)
            angle = positions.float()[..., None] / 10000.0 ** (even / self.dim)
            return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[..., : self.dim]
