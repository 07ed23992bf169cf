"""LowRank: the change s B A of one matrix (LoRA, Hu et al. 2022), or of its direction alone (DoRA, Liu et al. 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genus.ops.dropout import dropout
from genus.ops.linear import linear
from genus.parts.linear import Linear

SMALLEST = 1e-12  # length of a row below which it counts as this: a row of zeros has no direction


class LowRank(nn.Module):
    """W' = W + s B A for a matrix W (outputs, inputs); with a magnitude m, every row of W' is then made m long.

    B starts at zero and m at the lengths of the rows of W, so that nothing changes at first. The parameters have the names of
    peft: `lora_A` (rank, inputs), `lora_B` (outputs, rank), `lora_magnitude` (outputs).

    Attributes:
        scale: s, alpha / rank in the paper. dropout: on what A reads, in training; not for a matrix that is not a `Linear`.
    """

    lora_magnitude: nn.Parameter | None
    squares: Tensor | None

    def __init__(self, weight: Tensor, rank: int, scale: float, dropout: float = 0.0, dora: bool = False) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.scale, self.dropout = scale, dropout
        self.lora_A = nn.Parameter(weight.new_empty(rank, inputs))
        self.lora_B = nn.Parameter(weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as in the authors' code; the paper says normal
        squares = weight.detach().square().sum(1) if dora else None
        self.register_buffer("squares", squares, persistent=False)
        self.register_parameter("lora_magnitude", nn.Parameter(squares.sqrt()) if squares is not None else None)
        self.original: Tensor | None = None

    @classmethod
    def of(
        cls, weight: Tensor, A: Tensor, B: Tensor, scale: float, dropout: float = 0.0, magnitude: Tensor | None = None
    ) -> LowRank:
        """A change of `weight` with these factors."""
        with torch.random.fork_rng(devices=[]):  # what is drawn is overwritten at once
            change = cls(weight, len(A), scale, dropout, magnitude is not None)
        with torch.no_grad():
            change.lora_A.copy_(A)
            change.lora_B.copy_(B)
            if change.lora_magnitude is not None and magnitude is not None:
                change.lora_magnitude.copy_(magnitude)
        return change

    @property
    def rank(self) -> int:
        return len(self.lora_A)

    @property
    def merged(self) -> bool:
        """Whether the matrix holds the change already; it is not added again then."""
        return self.original is not None

    @torch.no_grad()
    def merge(self, weight: nn.Parameter) -> None:
        """Write W' over W, which is kept."""
        if not self.merged:
            changed = self(weight.detach())
            self.original = weight.detach().clone()
            weight.copy_(changed)

    @torch.no_grad()
    def unmerge(self, weight: nn.Parameter) -> None:
        """Put W back, bit for bit."""
        if self.original is not None:
            weight.copy_(self.original)
            self.original = None

    def forward(self, weight: Tensor) -> Tensor:
        """W' for W: what a matrix that no `Linear` owns is replaced with."""
        if self.merged:
            return weight
        changed = torch.addmm(weight, self.lora_B, self.lora_A, alpha=self.scale)
        return changed if self.lora_magnitude is None else changed * self.stretch(weight)[:, None]

    def stretch(self, weight: Tensor) -> Tensor:
        """(outputs,) m over the lengths of the rows of W + s B A, which count as constants (Liu et al. 2024, section 4.3).

        The sum is not formed: |w + s d|² = |w|² + 2 s w.d + s² |d|², whose products pass through the rank.
        """
        assert self.lora_magnitude is not None and self.squares is not None
        with torch.no_grad():
            cross = (weight @ self.lora_A.mT * self.lora_B).sum(1)
            own = (self.lora_B @ (self.lora_A @ self.lora_A.mT) * self.lora_B).sum(1)
            lengths = (self.squares + 2 * self.scale * cross + self.scale**2 * own).clamp(min=SMALLEST**2).sqrt()
        return self.lora_magnitude / lengths

    def extra_repr(self) -> str:
        kind = "" if self.lora_magnitude is None else ", magnitude"
        return f"{self.lora_A.shape[1]}, {len(self.lora_B)}, rank={self.rank}, scale={self.scale:g}{kind}"


class AdaptedLinear(Linear):
    """A `Linear` and the change of its matrix: the product with B A is never formed, nor the gradient of the frozen W."""

    def __init__(self, base: Linear, change: LowRank) -> None:
        nn.Module.__init__(self)
        self.weight = base.weight
        self.register_parameter("bias", base.bias)
        self.change = change
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        change = self.change
        if change.merged:
            return super().forward(x)
        inner = linear(dropout(x, change.dropout, self.training), change.lora_A) * change.scale
        if change.lora_magnitude is None:
            return linear(x, self.weight, self.bias) + linear(inner, change.lora_B)
        y = linear(x, self.weight) + linear(inner, change.lora_B)
        y = (y * change.stretch(self.weight)).to(x.dtype)  # bf16 would round the stretch to steps of 0.8 %
        return y if self.bias is None else y + self.bias.to(x.dtype)

    def plain(self) -> Linear:
        """The `Linear` without the change, with the same parameters."""
        module = Linear.__new__(Linear)
        nn.Module.__init__(module)
        module.weight = self.weight
        module.register_parameter("bias", self.bias)
        return module.train(self.training)
