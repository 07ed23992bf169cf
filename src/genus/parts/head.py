"""From the last vector of the residual stream to a distribution over the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.ops.activation import activation, softcap
from genus.ops.cross_entropy import IGNORE, linear_cross_entropy
from genus.ops.linear import linear
from genus.parts.linear import Linear, linear_parameters
from genus.parts.norm import LayerNorm, Norm
from genus.parts.task_head import TaskHead
from genus.spec import Spec

ROWS = 512  # positions scored at once: bounds the logits held in memory


@dataclass(frozen=True)
class Transform(Spec):
    """BERT's transform before the read-out: norm(act(W x + b))."""

    act: str = "gelu"
    norm: Norm = LayerNorm(eps=1e-12)
    outputs: int | None = None

    def width(self, dim: int) -> int:
        return self.outputs or dim

    def parameters(self, dim: int) -> int:
        return linear_parameters(dim, self.width(dim), bias=True) + self.norm.parameters(self.width(dim))

    def flops(self, dim: int, length: int) -> float:
        return 2.0 * dim * self.width(dim)

    class Module(nn.Module):
        def __init__(self, spec: Transform, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.proj = Linear(dim, spec.width(dim), bias=True)
            self.norm = spec.norm.build(spec.width(dim))

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(activation(self.spec.act, self.proj(x)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Head(Spec):
    """Linear read-out.

    Attributes:
        tied: the weight is the token embedding (Press & Wolf 2017). bias: one number per token.
        scale: factor on the vector before the read-out (T5: dim ** -0.5). softcap: c tanh(logit / c) (Gemma 2).
        transform: BERT's extra layer. dropout is the last sublayer's affair, not the head's.
        task: a second read-out of the whole text (BERT's next-sentence prediction).
    """

    tied: bool = True
    bias: bool = False
    scale: float = 1.0
    softcap: float | None = None
    transform: Transform | None = None
    task: TaskHead | None = None

    def inner(self, dim: int) -> int:
        """Width of the vector that meets the vocabulary."""
        return self.transform.width(dim) if self.transform else dim

    def count(self, dim: int, vocab: int) -> int:
        """Number of parameters, the tied table not counted again."""
        count = self.transform.parameters(dim) if self.transform else 0
        count += self.task.count(dim) if self.task else 0
        return count + (0 if self.tied else self.inner(dim) * vocab) + (vocab if self.bias else 0)

    def work(self, dim: int, vocab: int) -> float:
        """Operations per position."""
        inner = self.transform.flops(dim, 1) if self.transform else 0.0
        return 2.0 * self.inner(dim) * vocab + inner + (self.task.work(dim) if self.task else 0.0)

    class Module(nn.Module):
        bias: nn.Parameter | None

        def __init__(self, spec: Head, dim: int, vocab: int, table: nn.Parameter) -> None:
            super().__init__()
            self.spec = spec
            self.transform = spec.transform.build(dim) if spec.transform else None
            inner = spec.inner(dim)
            if spec.tied and table.shape[1] != inner:
                raise ValueError(
                    f"the read-out cannot be tied: the token table is {table.shape[1]} wide and the last layer {inner}; "
                    "set model.head.tied=false"
                )
            self.weight = table if spec.tied else nn.Parameter(torch.empty(vocab, inner))
            self.register_parameter("bias", nn.Parameter(torch.zeros(vocab)) if spec.bias else None)
            self.task = spec.task.build(dim) if spec.task else None

        def forward(self, hidden: Tensor, doc: Tensor | None = None) -> Tensor:
            """(..., dim) to float32 logits (..., vocab). `doc`: not used, a task's read-out needs it."""
            x = hidden if self.transform is None else self.transform(hidden)
            if self.spec.scale != 1.0:
                x = x * self.spec.scale
            y = linear(x, self.weight, self.bias).float()
            return y if self.spec.softcap is None else softcap(y, self.spec.softcap)

        def loss(self, hidden: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
            """Sum of the negative log-likelihoods in nats and number of targets; targets of -100 do not count.

            `smoothing`: share of each target's probability that is spread over the vocabulary.
            """
            x = hidden if self.transform is None else self.transform(hidden)
            flat = targets.reshape(-1)
            spec = self.spec
            total = linear_cross_entropy(
                x.reshape(-1, x.shape[-1]),
                self.weight,
                flat,
                self.bias,
                spec.scale,
                spec.softcap,
                smoothing,
            )
            return total, (flat != IGNORE).sum()

        def score(self, hidden: Tensor, targets: Tensor) -> Tensor:
            """(batch, time) log-probability of each target in nats, 0 where the target is -100."""
            flat = targets.reshape(-1)
            result = torch.zeros(len(flat), dtype=torch.float32, device=hidden.device)
            rows = hidden.reshape(-1, hidden.shape[-1])
            for start in range(0, len(flat), ROWS):
                part = slice(start, start + ROWS)
                y = self(rows[part]).log_softmax(-1)
                keep = flat[part] != IGNORE
                result[part] = y.gather(1, flat[part].masked_fill(~keep, 0)[:, None])[:, 0] * keep
            return result.view(targets.shape)
