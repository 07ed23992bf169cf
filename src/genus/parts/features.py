"""Feature maps: what keys and queries become before their dot products weigh the values. One knob of `FastWeights`.

Shapes: B batch, H heads, T time, K width of a key, F number of features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from genus.ops.features import dpfp, elu_plus_one, favor, orthogonal_directions, sum_to_one, unit_length
from genus.spec import Spec


@dataclass(frozen=True)
class FeatureMap(Spec):
    """What every feature map shares; use one of its children.

    `positive`: no feature is negative, so that weights can be normalised by their sum.
    """

    positive: ClassVar[bool] = False

    def features(self, dim: int) -> int:
        """F for keys of width `dim`."""
        return dim

    def check(self, normalise: bool) -> None:
        """Raise a ValueError where the outputs' normalisation does not go with these features."""
        if normalise and not self.positive:
            raise ValueError(
                f"{type(self).__name__} gives negative features, whose sum cannot normalise the outputs; "
                "set normalise=false, or choose EluPlusOne, DPFP or Favor"
            )


@dataclass(frozen=True)
class Identity(FeatureMap):
    """Keys as they are; queries divided by sqrt(K), as in attention."""

    class Module(nn.Module):
        def __init__(self, spec: Identity, dim: int) -> None:
            super().__init__()

        def forward(self, x: Tensor, query: bool) -> Tensor:
            return x * x.shape[-1] ** -0.5 if query else x


@dataclass(frozen=True)
class UnitLength(FeatureMap):
    """Keys and queries of length one, queries then divided by sqrt(K) (Yang et al. 2024)."""

    class Module(nn.Module):
        def __init__(self, spec: UnitLength, dim: int) -> None:
            super().__init__()

        def forward(self, x: Tensor, query: bool) -> Tensor:
            y = unit_length(x)
            return y * x.shape[-1] ** -0.5 if query else y


@dataclass(frozen=True)
class EluPlusOne(FeatureMap):
    """elu(x) + 1 (Katharopoulos et al. 2020). `sum_norm`: divided by the sum of the features (Schlag et al. 2021)."""

    positive: ClassVar[bool] = True
    sum_norm: bool = False

    class Module(nn.Module):
        def __init__(self, spec: EluPlusOne, dim: int) -> None:
            super().__init__()
            self.spec = spec

        def forward(self, x: Tensor, query: bool) -> Tensor:
            y = elu_plus_one(x)
            return sum_to_one(y) if self.spec.sum_norm else y


@dataclass(frozen=True)
class DPFP(FeatureMap):
    """Deterministic parameter-free projection to 2 K `nu` sparse features (Schlag et al. 2021).

    `sum_norm`: divided by the sum of the features.
    """

    positive: ClassVar[bool] = True
    nu: int = 3
    sum_norm: bool = True

    def __post_init__(self) -> None:
        if self.nu < 1:
            raise ValueError(f"DPFP needs nu of 1 or more, not {self.nu}")

    def features(self, dim: int) -> int:
        if self.nu >= 2 * dim:
            raise ValueError(f"DPFP with nu = {self.nu} needs keys wider than {self.nu // 2}; choose fewer heads or a smaller nu")
        return 2 * dim * self.nu

    class Module(nn.Module):
        def __init__(self, spec: DPFP, dim: int) -> None:
            super().__init__()
            spec.features(dim)  # refuses keys that are too narrow
            self.spec = spec

        def forward(self, x: Tensor, query: bool) -> Tensor:
            y = dpfp(x, self.spec.nu)
            return sum_to_one(y) if self.spec.sum_norm else y


@dataclass(frozen=True)
class Favor(FeatureMap):
    """FAVOR+: positive orthogonal random features of the softmax kernel exp(q.k / sqrt(K)) (Choromanski et al. 2021).

    The directions are drawn once from `seed` and saved with the model; they are not trained.

    Attributes:
        count: number of features; None = K ln K, as in the paper.
    """

    positive: ClassVar[bool] = True
    count: int | None = None
    seed: int = 0

    def features(self, dim: int) -> int:
        return self.count or max(1, round(dim * math.log(dim)))

    def flops(self, dim: int, length: int) -> float:
        return 2.0 * dim * self.features(dim)

    def check(self, normalise: bool) -> None:
        if not normalise:
            raise ValueError("Favor estimates softmax attention, which is normalised; set normalise=true")

    class Module(nn.Module):
        directions: Tensor

        def __init__(self, spec: Favor, dim: int) -> None:
            super().__init__()
            self.register_buffer("directions", orthogonal_directions(spec.features(dim), dim, spec.seed))

        def forward(self, x: Tensor, query: bool) -> Tensor:
            return favor(x * x.shape[-1] ** -0.25, self.directions, largest=query)
