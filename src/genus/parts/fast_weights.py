"""Fast weight programmers: linear transformer, Performer, RetNet, DeltaNet, Gated DeltaNet as one mixer with two knobs.

Shapes: B batch, T time, D model width, H heads, K width of a key, F its features, V width of a value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from genus.ops.activation import activation
from genus.ops.fast_weights import fast_weights
from genus.ops.gates import fade, strength
from genus.ops.rotary import rotary
from genus.parts.conv import ShortConv
from genus.parts.ctx import Ctx
from genus.parts.features import EluPlusOne, FeatureMap
from genus.parts.linear import Linear, joined, linear_parameters
from genus.parts.norm import Norm
from genus.parts.positions import Rotary
from genus.spec import Spec


@dataclass(frozen=True)
class PerHead(Spec):
    """A number per head and position, computed from the input; what rules and decays are made of."""

    def build(self, dim: int, heads: int = 1) -> Any:
        """The module; it maps (B, T, D) to (B, H, T)."""
        return self.Module(self, dim, heads)

    def parameters(self, dim: int, heads: int = 1) -> int:
        return 0

    def flops(self, dim: int, length: int, heads: int = 1) -> float:
        return 0.0


@dataclass(frozen=True)
class UpdateRule(PerHead):
    """How a key and a value change the memory; use one of its children."""


@dataclass(frozen=True)
class Sum(UpdateRule):
    """Add the outer product of key and value (Schmidhuber 1992; Katharopoulos et al. 2020)."""

    def build(self, dim: int, heads: int = 1) -> None:
        return None


@dataclass(frozen=True)
class Delta(UpdateRule):
    """Write the error beta (v - S k) of what the memory answers to the key (Schlag et al. 2021).

    Attributes:
        reach: beta = reach sigmoid(W x); 2 allows negative eigenvalues of the transition (Grazzi et al. 2025).
    """

    reach: float = 1.0

    def parameters(self, dim: int, heads: int = 1) -> int:
        return linear_parameters(dim, heads)

    def flops(self, dim: int, length: int, heads: int = 1) -> float:
        return 2.0 * dim * heads

    class Module(nn.Module):
        def __init__(self, spec: Delta, dim: int, heads: int) -> None:
            super().__init__()
            self.spec = spec
            self.b_proj = Linear(dim, heads)

        def forward(self, x: Tensor) -> Tensor:
            return strength(self.b_proj(x), self.spec.reach).mT


@dataclass(frozen=True)
class Decay(PerHead):
    """How the memory fades: its module gives the logarithm of the factor; use one of its children."""


@dataclass(frozen=True)
class FixedDecay(Decay):
    """1 - 2^(-5 - h) for head h (RetNet; Sun et al. 2023, eq. 8)."""

    class Module(nn.Module):
        def __init__(self, spec: FixedDecay, dim: int, heads: int) -> None:
            super().__init__()
            self.heads = heads

        def forward(self, x: Tensor) -> Tensor:
            made = _retention if torch.compiler.is_compiling() else _kept_retention
            log = made(self.heads, torch.promote_types(x.dtype, torch.float32), x.device)
            return log[:, None].expand(len(x), -1, x.shape[1])


def _retention(heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(heads,) logarithms of RetNet's decays."""
    return torch.log1p(-(2.0 ** -(5 + torch.arange(heads, device=device, dtype=dtype))))


@cache
def _kept_retention(heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # of use with and without gradients
        return _retention(heads, dtype, device)


@dataclass(frozen=True)
class SelectiveDecay(Decay):
    """exp(-A softplus(W x + b)), A and b per head (Mamba-2, Dao & Gu 2024; Gated DeltaNet, Yang et al. 2025)."""

    def parameters(self, dim: int, heads: int = 1) -> int:
        return linear_parameters(dim, heads) + 2 * heads

    def flops(self, dim: int, length: int, heads: int = 1) -> float:
        return 2.0 * dim * heads

    class Module(nn.Module):
        """A starts uniform in (0, 16), the step softplus(b) log-uniform in (0.001, 0.1)."""

        def __init__(self, spec: SelectiveDecay, dim: int, heads: int) -> None:
            super().__init__()
            self.a_proj = Linear(dim, heads)
            self.A_log = nn.Parameter(torch.empty(heads).uniform_(0.01, 16).log())
            step = torch.empty(heads).uniform_(math.log(1e-3), math.log(0.1)).exp()
            self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))

        def forward(self, x: Tensor) -> Tensor:
            return fade(self.a_proj(x), self.A_log, self.dt_bias).mT


@dataclass(frozen=True)
class FastWeights(Spec):
    """A matrix per head that keys and values write and queries read: S_t = decay S_{t-1} + write(k_t, v_t), y_t = S_t q_t.

    Attributes:
        heads: number of matrices.
        key_dim, value_dim: width per head, or as a float a multiple of the model's width, over all heads.
        feature, rule: the two knobs. decay: None = nothing fades. normalise: divide y_t by the sum of its weights.
        out_norm: normalisation of each head's output. gate: activation of a gate on it; None = no gate.
        conv: before anything else, on queries, keys and values. position: rotation of queries and keys.
        chunk: positions the op handles at once; changes speed only.
    """

    heads: int = 8
    key_dim: int | float = 1.0
    value_dim: int | float = 1.0
    feature: FeatureMap = EluPlusOne()
    rule: UpdateRule = Sum()
    decay: Decay | None = None
    normalise: bool = True
    out_norm: Norm | None = None
    gate: str | None = None
    conv: ShortConv | None = None
    position: Rotary | None = None
    chunk: int = 64

    def __post_init__(self) -> None:
        if self.heads < 1 or self.chunk < 1:
            raise ValueError(f"heads and chunk must be at least 1, not {self.heads} and {self.chunk}")
        self.feature.check(self.normalise)

    def sizes(self, dim: int) -> tuple[int, int]:
        """Width per head of keys and of values."""
        return self._per_head(self.key_dim, dim, "key_dim"), self._per_head(self.value_dim, dim, "value_dim")

    def _per_head(self, size: int | float, dim: int, name: str) -> int:
        if isinstance(size, int):
            return size
        total = size * dim
        if total % self.heads:
            raise ValueError(
                f"{name} = {size} x {dim} does not divide into {self.heads} heads; change dim or heads, or set {name} as "
                "a whole number, the width per head"
            )
        return int(total) // self.heads

    def parameters(self, dim: int) -> int:
        key, value = self.sizes(dim)
        count = dim * self.heads * (2 * key + 2 * value) + (dim * self.heads * value if self.gate else 0)
        count += self.rule.parameters(dim, self.heads) + (self.decay.parameters(dim, self.heads) if self.decay else 0)
        count += self.conv.parameters(self.heads * (2 * key + value)) if self.conv else 0
        return count + (self.out_norm.parameters(value) if self.out_norm else 0)

    def flops(self, dim: int, length: int) -> float:
        """Counted as a recurrence: a write and a read per position, and for the delta rule a second read."""
        key, value = self.sizes(dim)
        count = 2.0 * dim * self.heads * (2 * key + (3 if self.gate else 2) * value)
        count += self.rule.flops(dim, length, self.heads) + (self.decay.flops(dim, length, self.heads) if self.decay else 0)
        count += self.conv.flops(self.heads * (2 * key + value), length) if self.conv else 0
        return count + self.mixing(dim, length)

    def mixing(self, dim: int, length: int) -> float:
        """The memory, and Favor's directions, which are drawn and not trained."""
        key, value = self.sizes(dim)
        passes = 2 if isinstance(self.rule, Sum) else 3
        memory = 2.0 * self.heads * self.feature.features(key) * (passes * value + (1 if self.normalise else 0))
        return memory + 2 * self.heads * self.feature.flops(key, length)

    class Module(nn.Module):
        def __init__(self, spec: FastWeights, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.key, self.value = spec.sizes(dim)
            keys, values = spec.heads * self.key, spec.heads * self.value
            self.q_proj, self.k_proj, self.v_proj = (Linear(dim, w) for w in (keys, keys, values))
            self.o_proj = Linear(values, dim)
            self.g_proj = Linear(dim, values) if spec.gate else None
            self.conv = spec.conv.build(2 * keys + values) if spec.conv else None
            self.feature = spec.feature.build(self.key)
            self.rule = spec.rule.build(dim, spec.heads)
            self.decay = spec.decay.build(dim, spec.heads) if spec.decay else None
            self.o_norm = spec.out_norm.build(self.value) if spec.out_norm else None

        def init_state(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
            """The memory, whatever the `length`: the matrices, the sums of keys, the convolution's last inputs."""
            spec, wide = self.spec, torch.promote_types(dtype, torch.float32)
            shape = (batch, spec.heads, spec.feature.features(self.key), self.value)
            state = {"memory": torch.zeros(shape, dtype=wide, device=device)}
            if spec.normalise:
                state["keys"] = torch.zeros(shape[:3], dtype=wide, device=device)
            return state | (self.conv.init_state(batch, length, dtype, device) if self.conv is not None else {})

        def forward(self, x: Tensor, ctx: Ctx, state: dict[str, Tensor] | None = None) -> Tensor:
            spec = self.spec
            q, k, v = joined(x, self.q_proj, self.k_proj, self.v_proj)
            if self.conv is not None:
                mixed = self.conv(torch.cat([q, k, v], dim=-1), ctx, state)
                q, k, v = mixed.split([q.shape[-1], k.shape[-1], v.shape[-1]], dim=-1)
            q, k, v = (t.unflatten(-1, (spec.heads, -1)).transpose(1, 2) for t in (q, k, v))
            if spec.position is not None:
                cos, sin = spec.position.tables(ctx, self.key, x.dtype)
                q, k = rotary(q, cos, sin), rotary(k, cos, sin)
            q, k = self.feature(q, query=True), self.feature(k, query=False)
            log_decay = None if self.decay is None else self.decay(x)
            beta = None if self.rule is None else self.rule(x)
            memory = None if state is None else (state["memory"], state.get("keys"))
            y, (matrix, total) = fast_weights(q, k, v, log_decay, beta, memory, ctx.fresh, ctx.pad, spec.normalise, spec.chunk)
            if state is not None:
                state["memory"] = matrix
                if total is not None:
                    state["keys"] = total
            y = y.transpose(1, 2)
            if self.o_norm is not None:
                y = self.o_norm(y)
            y = y.flatten(2)
            if self.g_proj is not None and spec.gate is not None:
                y = y * activation(spec.gate, self.g_proj(x))
            return self.o_proj(y)  # type: ignore[no-any-return]
