"""A read-out for a task instead of the vocabulary: one row of outputs for a text, or for each of its positions; or none at all.

Shapes: B batch, T time, D width, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genus.ops.activation import activation
from genus.ops.document_attention import stretches
from genus.ops.dropout import dropout
from genus.parts.ctx import PADDING
from genus.parts.linear import Linear, linear_parameters
from genus.parts.mix import ScalarMix
from genus.spec import Spec

Take = Literal["first", "last", "mean", "max"]


@dataclass(frozen=True)
class Pool(Spec):
    """One vector for a text; see `one_vector`.

    Attributes:
        take: the vector of the first position (BERT), of the last (GPT-1), or the mean or largest of each coordinate over all.
        dense: a layer of the same width and `act` after it (BERT's pooler, Devlin et al. 2019).
    """

    take: Take = "first"
    dense: bool = True
    act: str = "tanh"

    def parameters(self, dim: int) -> int:
        return linear_parameters(dim, dim, bias=True) if self.dense else 0

    class Module(nn.Module):
        def __init__(self, spec: Pool, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.proj = Linear(dim, dim, bias=True) if spec.dense else None

        def forward(self, hidden: Tensor, doc: Tensor | None) -> Tensor:
            """(B, T, D) to (N, D), a vector for each text."""
            x = one_vector(self.spec.take, hidden, doc)
            return x if self.proj is None else activation(self.spec.act, self.proj(x))


def one_vector(take: Take, hidden: Tensor, doc: Tensor | None = None) -> Tensor:
    """(B, T, D) to (N, D), a vector for each text.

    A row is a text and whatever padding (document -1) follows it, or holds several texts, one after the other.
    """
    texts = None if doc is None else stretches(doc)
    if texts is not None and len(texts) > len(hidden):
        return _each(take, hidden, *texts.unbind(1))
    real = None if doc is None else doc != PADDING
    match take:
        case "first":
            return hidden[:, 0]
        case "last" if real is None:
            return hidden[:, -1]
        case "last":
            assert real is not None
            place = torch.arange(hidden.shape[1], device=hidden.device)
            return hidden[torch.arange(len(hidden), device=hidden.device), torch.where(real, place, 0).amax(1)]
        case "max":
            return (hidden if real is None else hidden.masked_fill(~real[..., None], -torch.inf)).amax(1)
        case "mean" if real is None:
            return hidden.mean(1)
        case "mean":
            assert real is not None
            weight = real[..., None].to(hidden.dtype)
            return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def _each(take: Take, hidden: Tensor, row: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """(N, D) of texts that share rows: their rows, and where they begin and end."""
    match take:
        case "first":
            return hidden[row, start]
        case "last":
            return hidden[row, stop - 1]
    text = torch.repeat_interleave(stop - start)
    first = (stop - start).cumsum(0) - (stop - start)
    place = torch.arange(len(text), device=hidden.device) - first[text] + start[text]
    vectors, found = hidden[row[text], place], hidden.new_zeros(len(row), hidden.shape[-1])
    if take == "max":
        return found.scatter_reduce(0, text[:, None].expand_as(vectors), vectors, "amax", include_self=False)
    return found.index_add(0, text, vectors) / (stop - start)[:, None]


@dataclass(frozen=True)
class TaskHead(Spec):
    """Linear read-out of K numbers: classes of a text, a tag for each position, where an answer begins and ends.

    Attributes:
        outputs: K. pool: None = a row of outputs for every position. bias: one number per output.
        before, dropout: rates on what the pool reads and on what it gives.
        mix: the head reads a mixture of all layers instead of the last one's output (ELMo).
    """

    outputs: int = 2
    pool: Pool | None = Pool()
    bias: bool = True
    dropout: float = 0.0
    before: float = 0.0
    mix: ScalarMix | None = None

    tied: ClassVar[bool] = False  # a task's outputs are not tokens
    softcap: ClassVar[None] = None
    transform: ClassVar[None] = None
    scale: ClassVar[float] = 1.0

    def count(self, dim: int, vocab: int = 0) -> int:
        """Number of parameters."""
        count = linear_parameters(dim, self.outputs, self.bias) + (self.pool.parameters(dim) if self.pool else 0)
        return count + (self.mix.parameters(dim) if self.mix else 0)

    def work(self, dim: int, vocab: int = 0) -> float:
        """Operations per position; a pool's, which come once for a text, are left out."""
        return 0.0 if self.pool else 2.0 * dim * self.outputs

    class Module(nn.Module):
        def __init__(self, spec: TaskHead, dim: int, vocab: int = 0, table: nn.Parameter | None = None) -> None:
            super().__init__()
            self.spec = spec
            self.mix = spec.mix.build(dim) if spec.mix else None
            self.pool = spec.pool.build(dim) if spec.pool else None
            self.proj = Linear(dim, spec.outputs, bias=spec.bias)

        def forward(self, hidden: Tensor, doc: Tensor | None = None) -> Tensor:
            """(B, T, D) to float32 outputs (B, K), or (B, T, K) without a pool."""
            x = dropout(hidden, self.spec.before, self.training)
            if self.pool is not None:
                x = self.pool(x, doc)
            return self.proj(dropout(x, self.spec.dropout, self.training)).float()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Vectors(Spec):
    """No read-out: the model gives the vectors of its last layer (a sentence encoder, an encoder without its pre-training head).

    Attributes:
        pool: a layer that was trained to sum up the whole text (BERT's pooler); it is kept for a task's head that begins with it,
            `model.head.pool(hidden, doc)`.
        take, unit: how a sentence encoder was trained to make one vector of a text's, and whether it is brought to length 1
            (Reimers & Gurevych 2019); None = nobody says. `genus.tune.features` does it.
        longest: tokens after which it was trained to cut a text, special ones counted; None = the model's positions.
    """

    pool: Pool | None = None
    take: Take | None = None
    unit: bool = False
    longest: int | None = None

    tied: ClassVar[bool] = False
    softcap: ClassVar[None] = None
    transform: ClassVar[None] = None
    scale: ClassVar[float] = 1.0

    def count(self, dim: int, vocab: int = 0) -> int:
        """Number of parameters."""
        return self.pool.parameters(dim) if self.pool else 0

    def work(self, dim: int, vocab: int = 0) -> float:
        """Operations per position."""
        return 0.0

    class Module(nn.Module):
        def __init__(self, spec: Vectors, dim: int, vocab: int = 0, table: nn.Parameter | None = None) -> None:
            super().__init__()
            self.spec = spec
            self.pool = spec.pool.build(dim) if spec.pool else None

        def forward(self, hidden: Tensor, doc: Tensor | None = None) -> Tensor:
            """(B, T, D) as they are, in float32."""
            return hidden.float()
