"""How sublayers join the residual stream. `norm` is the sublayer's normalisation, `after` a second one where a wiring has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from genus.spec import Spec

Sublayer = Callable[[Tensor], Tensor]
Stream = Any  # a tensor, or for ResiDual a pair of tensors that only enter, join and leave look into


@dataclass(frozen=True)
class Wiring(Spec):
    """`enter` opens the stream, `join` adds a sublayer, `leave` closes it with the stack's final norm."""

    def norms(self, sublayers: int) -> tuple[int, int]:
        """How many norms a block holds before and after its sublayers."""
        return sublayers, 0

    def enter(self, x: Tensor) -> Stream:
        return x

    def join(self, h: Stream, f: Sublayer, norm: Sublayer, after: Sublayer) -> Stream:
        raise NotImplementedError

    def seen(self, h: Stream) -> Tensor:
        """The stream as the next sublayer finds it, before its norm."""
        return h  # type: ignore[no-any-return]

    def leave(self, h: Stream, final: Sublayer) -> Tensor:
        return final(h)

    def run(
        self,
        h: Stream,
        fs: Sequence[Sublayer],
        norms: Sequence[Sublayer],
        after: Sequence[Sublayer],
    ) -> Stream:
        """All sublayers of a block, one after the other."""
        for f, norm, second in zip(fs, norms, after, strict=True):
            h = self.join(h, f, norm, second)
        return h


@dataclass(frozen=True)
class Plain(Wiring):
    """No residual: each sublayer feeds the next (the years before 2015)."""

    def norms(self, sublayers: int) -> tuple[int, int]:
        return 0, 0

    def join(self, h: Stream, f: Sublayer, norm: Sublayer, after: Sublayer) -> Stream:
        return f(h)


@dataclass(frozen=True)
class PreNorm(Wiring):
    """h + f(norm(h)) (GPT-2; Xiong et al. 2020)."""

    def join(self, h: Stream, f: Sublayer, norm: Sublayer, after: Sublayer) -> Stream:
        return h + f(norm(h))


@dataclass(frozen=True)
class PostNorm(Wiring):
    """norm(h + f(h)) (Vaswani et al. 2017, BERT, GPT-1)."""

    def join(self, h: Stream, f: Sublayer, norm: Sublayer, after: Sublayer) -> Stream:
        return norm(h + f(h))


@dataclass(frozen=True)
class OutNorm(Wiring):
    """h + norm(f(h)) (OLMo 2)."""

    def join(self, h: Stream, f: Sublayer, norm: Sublayer, after: Sublayer) -> Stream:
        return h + norm(f(h))


@dataclass(frozen=True)
class Sandwich(Wiring):
    """h + after(f(norm(h))) (Ding et al. 2021, Gemma 2)."""

    def norms(self, sublayers: int) -> tuple[int, int]:
        return sublayers, sublayers

    def join(self, h: Stream, f: Sublayer, norm: Sublayer, after: Sublayer) -> Stream:
        return h + after(f(norm(h)))


@dataclass(frozen=True)
class ResiDual(Wiring):
    """A post-norm stream beside an unnormalised one, summed at the end (Xie et al. 2023, eq. 3)."""

    def enter(self, x: Tensor) -> Stream:
        return x, x

    def join(self, h: Stream, f: Sublayer, norm: Sublayer, after: Sublayer) -> Stream:
        post, dual = h
        y = f(post)
        return norm(post + y), dual + y

    def seen(self, h: Stream) -> Tensor:
        return h[0]  # type: ignore[no-any-return]

    def leave(self, h: Stream, final: Sublayer) -> Tensor:
        post, dual = h
        return post + final(dual)


@dataclass(frozen=True)
class Parallel(Wiring):
    """h + sum of f(norm(h)) over the block's sublayers (GPT-J, GPT-NeoX). `one_norm`: they share a single norm."""

    one_norm: bool = False

    def norms(self, sublayers: int) -> tuple[int, int]:
        return (1 if self.one_norm else sublayers), 0

    def run(
        self,
        h: Stream,
        fs: Sequence[Sublayer],
        norms: Sequence[Sublayer],
        after: Sequence[Sublayer],
    ) -> Stream:
        y = h
        for f, norm in zip(fs, norms, strict=True):
            y = y + f(norm(h))
        return y
