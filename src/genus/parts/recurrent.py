"""Recurrent token mixers: Elman's RNN, LSTM and GRU."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from genus.ops.host import sent
from genus.ops.recurrent import GATES, recurrent
from genus.parts.ctx import PADDING, Ctx
from genus.spec import Spec


@dataclass(frozen=True)
class Recurrent(Spec):
    """One recurrent layer with PyTorch's parameters and conventions (Elman 1990; Hochreiter & Schmidhuber 1997; Cho et al. 2014).

    Attributes:
        cell: "Cho" is the GRU with the reset gate before the matrix product, as published; "GRU" has it after, as cuDNN.
        hidden: width of the state; None = the width of the input.
        projection: width of what an LSTM gives out and reads back, a linear map of the state that spares most of the recurrent
            weights (Sak et al. 2014; Jozefowicz et al. 2016); None = the state itself.
    """

    cell: Literal["RNN", "LSTM", "GRU", "Cho"] = "LSTM"
    hidden: int | None = None
    projection: int | None = None

    def __post_init__(self) -> None:
        if self.projection is not None and self.cell != "LSTM":
            raise ValueError(f"a projection belongs to an LSTM; {self.cell} has none")

    def width(self, dim: int) -> int:
        return self.projection or self.hidden or dim

    def parameters(self, dim: int) -> int:
        hidden, width = self.hidden or dim, self.width(dim)
        return GATES[self.cell] * hidden * (dim + width + 2) + (self.projection or 0) * hidden

    def flops(self, dim: int, length: int) -> float:
        hidden, width = self.hidden or dim, self.width(dim)
        return 2.0 * hidden * (GATES[self.cell] * (dim + width) + (self.projection or 0))

    class Module(nn.Module):
        def __init__(self, spec: Recurrent, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.hidden, self.width = spec.hidden or dim, spec.width(dim)
            rows = GATES[spec.cell] * self.hidden
            self.weight_ih = nn.Parameter(torch.empty(rows, dim))
            self.weight_hh = nn.Parameter(torch.empty(rows, self.width))
            self.bias_ih = nn.Parameter(torch.zeros(rows))
            self.bias_hh = nn.Parameter(torch.zeros(rows))
            self.weight_hr = nn.Parameter(torch.empty(self.width, self.hidden)) if spec.projection else None
            self.sizes = {"hidden": self.width, "cell": self.hidden} if spec.cell == "LSTM" else {"hidden": self.width}

        def init_state(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
            return {name: torch.zeros(batch, size, dtype=dtype, device=device) for name, size in self.sizes.items()}

        def forward(self, x: Tensor, ctx: Ctx, state: dict[str, Tensor] | None = None) -> Tensor:
            if state is None and ctx.doc is not None and (ctx.fresh is not None or ctx.pad is not None):
                return self._by_document(x, ctx)
            start = state or self.init_state(len(x), 0, x.dtype, x.device)
            y, end = self._segments(x, ctx, tuple(start[name] for name in self.sizes))
            if state is not None:
                state.update({name: value.to(state[name].dtype) for name, value in zip(self.sizes, end, strict=True)})
            return y

        def _run(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
            return recurrent(self.spec.cell, x, weights if self.weight_hr is None else [*weights, self.weight_hr], state)

        def _segments(self, x: Tensor, ctx: Ctx, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            """Cut time wherever any row begins a document or changes to or from padding, and mend the state of those rows."""
            if ctx.fresh is None and ctx.pad is None:
                return self._run(x, state)
            told = ctx.here
            cut = torch.zeros(x.shape[1], dtype=torch.bool, device=told.positions.device)
            if told.fresh is not None:
                cut |= told.fresh.any(0)
            if told.pad is not None:
                cut[1:] |= (told.pad[:, 1:] != told.pad[:, :-1]).any(0)
            borders = [0, *(t for t in cut.nonzero()[:, 0].tolist() if t), x.shape[1]]
            outputs = []
            for a, b in pairwise(borders):
                if ctx.fresh is not None:
                    state = tuple(s.masked_fill(ctx.fresh[:, a, None], 0) for s in state)
                y, new = self._run(x[:, a:b], state)
                if ctx.pad is not None:
                    new = tuple(torch.where(ctx.pad[:, a, None], s.to(n.dtype), n) for s, n in zip(state, new, strict=True))
                state = new
                outputs.append(y)
            return torch.cat(outputs, dim=1), state

        def _by_document(self, x: Tensor, ctx: Ctx) -> Tensor:
            """Without a state, documents are independent: lay each on a row of its own, run them all at once, lay them back."""
            doc, positions = ctx.here.doc, ctx.here.positions
            assert doc is not None
            where = (doc != PADDING).nonzero(as_tuple=True)
            place = positions[where]
            if not len(place):
                return x.new_zeros(*doc.shape, self.width)
            number = (place == 0).cumsum(0) - 1  # which document each token belongs to
            rows = x.new_zeros(int(number[-1]) + 1, int(place.max()) + 1, x.shape[2])
            row, time, number, place = (sent(index, x.device) for index in (*where, number, place))
            rows[number, place] = x[row, time]
            y, _ = self._run(rows, tuple(x.new_zeros(len(rows), size) for size in self.sizes.values()))
            return y.new_zeros(*doc.shape, self.width).index_put((row, time), y[number, place])
