"""What training a model of some size on some tokens costs: the one thing that frontiers and designs ask of a machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

UNITS = ("seconds", "flops")
_MOST_TOKENS = 1e18


@runtime_checkable
class Cost(Protocol):
    """Price of one branch. Everything broadcasts; `params` is counted as in the branch's forecast."""

    @property
    def sizes(self) -> Array:
        """(sizes,) parameters of the models that exist on the branch's ladder, rising. One size: a count model."""

    def seconds(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """Seconds to train on `tokens`; rises with tokens."""

    def flops(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """Training operations; rises with tokens."""

    def memory(self, params: ArrayLike) -> Array:
        """Peak bytes while training."""

    def decode_seconds(self, params: ArrayLike) -> Array:
        """Seconds for one generated token."""


@dataclass(frozen=True)
class Paced:
    """A price whose seconds turned out to be `pace` times as many."""

    cost: Cost
    pace: float

    @property
    def sizes(self) -> Array:
        return self.cost.sizes

    def seconds(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return self.pace * self.cost.seconds(params, tokens)

    def flops(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return self.cost.flops(params, tokens)

    def memory(self, params: ArrayLike) -> Array:
        return self.cost.memory(params)

    def decode_seconds(self, params: ArrayLike) -> Array:
        return self.cost.decode_seconds(params)


@dataclass(frozen=True)
class SimpleCost:
    """Operations proportional to parameters × tokens (Kaplan et al. 2020, section 2.1), for run tables without a machine.

    Attributes:
        sizes: (sizes,) parameters.
        operations: per parameter and training token.
        rate: operations per second.
        per_token: operations that a token costs at any size (a head, a Python loop).
        state_bytes: per parameter while training: weight, gradient and AdamW's two moments in float32.
    """

    sizes: Array = field(default_factory=lambda: np.geomspace(1e4, 1e12, 97))
    operations: float = 6.0
    rate: float = 1e10
    per_token: float = 0.0
    state_bytes: float = 16.0

    def __post_init__(self) -> None:
        sizes = np.sort(np.asarray(self.sizes, np.float64).ravel())
        if not len(sizes) or not np.all(sizes > 0):
            raise ValueError("a cost needs at least one size, and sizes are positive numbers of parameters")
        object.__setattr__(self, "sizes", sizes)

    def flops(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return (self.operations * np.asarray(params, np.float64) + self.per_token) * np.asarray(tokens, np.float64)

    def seconds(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return self.flops(params, tokens) / self.rate

    def memory(self, params: ArrayLike) -> Array:
        return self.state_bytes * np.asarray(params, np.float64)

    def decode_seconds(self, params: ArrayLike) -> Array:
        return (2 * np.asarray(params, np.float64) + self.per_token / 3) / self.rate


def spend(cost: Cost, params: ArrayLike, tokens: ArrayLike, by: str) -> Array:
    """Seconds or training operations.

    Raises:
        ValueError: `by` is neither "seconds" nor "flops".
    """
    if by not in UNITS:
        raise ValueError(f"a budget is counted in {' or '.join(UNITS)}, not in {by!r}")
    return cost.seconds(params, tokens) if by == "seconds" else cost.flops(params, tokens)


def affordable(cost: Cost, params: ArrayLike, budget: ArrayLike, by: str = "seconds") -> Array:
    """Tokens on which `budget` trains a model of `params`; 0 where it does not reach for one token. Broadcasts.

    Bisection on the logarithm, since a measured cost is any rising function of tokens.
    """
    params, budget = np.broadcast_arrays(np.asarray(params, np.float64), np.asarray(budget, np.float64))
    low, high = np.zeros(params.shape), np.full(params.shape, np.log(_MOST_TOKENS))
    for _ in range(56):
        middle = 0.5 * (low + high)
        within = spend(cost, params, np.exp(middle), by) <= budget
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return np.where(spend(cost, params, np.ones_like(low), by) <= budget, np.exp(low), 0.0)


def trajectory_tokens(horizons: ArrayLike, decay: float = 0.2) -> float:
    """Tokens that one warm-up–stable–decay trajectory trains on to give a point at each horizon.

    The trunk is paid once, up to where the longest horizon begins to decay; each horizon pays for its own decay (Hu et al. 2024,
    MiniCPM, section 4; Hägele et al. 2024).
    """
    h = np.asarray(horizons, np.float64)
    return float((1 - decay) * h.max() + decay * h.sum())
