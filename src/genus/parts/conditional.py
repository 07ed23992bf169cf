"""A recurrent decoder that is told of the source at every step (Cho et al. 2014; Bahdanau et al. 2015).

Shapes: B batch, N documents, T time, S source positions, D width of the input, M of the encoder's output, H of the state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genus.ops.recurrent import reset_first
from genus.parts.ctx import PADDING, Ctx
from genus.parts.linear import Linear, linear_parameters
from genus.parts.source_context import Additive, Reader, SourceContext
from genus.spec import Spec


@dataclass(frozen=True)
class Conditional(Spec):
    """A GRU whose gates and candidate also see a context of the source (Bahdanau et al. 2015, appendix A.1.2).

    s_i = z s_{i-1} + (1 - z) tanh(W x_i + U (r s_{i-1}) + C c_i), with r and z likewise from x_i, s_{i-1} and c_i. (The paper's z
    and 1 - z are exchanged, as in Cho et al. 2014.) What it hands on is [s_{i-1}, c_i, x_i], which the paper's read-out sees: so
    the probability of a token does not wait for the state that the token before it leads to.

    Attributes:
        hidden: H. memory: M, the width of the encoder's output. context: how the source is read.
    """

    hidden: int = 1000
    memory: int = 2000
    context: SourceContext = Additive()

    def _context(self) -> int:
        return self.context.gives(self.memory, self.hidden)

    def width(self, dim: int) -> int:
        return self.hidden + self._context() + dim

    def parameters(self, dim: int) -> int:
        count = linear_parameters(dim, 3 * self.hidden, bias=True) + linear_parameters(self._context(), 3 * self.hidden)
        count += 3 * self.hidden * (self.hidden + 1)
        count += linear_parameters(self.context.first(self.memory, self.hidden), self.hidden, bias=True)
        return count + self.context.count(self.memory, self.hidden)

    def flops(self, dim: int, length: int) -> float:
        told = 6.0 * self.hidden * self._context()
        steps = 6.0 * self.hidden * (dim + self.hidden) + (told if self.context.every_step else told / length)
        first = 2.0 * self.context.first(self.memory, self.hidden) * self.hidden / length
        return steps + first + self.context.work(self.memory, self.hidden, length)

    class Module(nn.Module):
        def __init__(self, spec: Conditional, dim: int) -> None:
            super().__init__()
            self.spec = spec
            hidden = spec.hidden
            self.input = Linear(dim, 3 * hidden, bias=True)
            self.context: Reader = spec.context.Module(spec.context, spec.memory, hidden)
            self.told = Linear(spec._context(), 3 * hidden)
            self.start = Linear(spec.context.first(spec.memory, hidden), hidden, bias=True)
            self.weight_hh = nn.Parameter(torch.empty(3 * hidden, hidden))
            self.bias_hh = nn.Parameter(torch.zeros(3 * hidden))
            self.state_axes: dict[str, int] = self.context.state_axes

        def init_state(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
            """The state of the decoder; what is kept of the source joins it when the source is read."""
            return {"hidden": torch.zeros(batch, self.spec.hidden, dtype=dtype, device=device)}

        def forward(self, x: Tensor, ctx: Ctx, state: dict[str, Tensor] | None = None) -> Tensor:
            if state is None and ctx.doc is not None:
                return self._by_document(x, ctx, ctx.doc)
            if state is None:
                assert ctx.memory is not None
                prepared = self._prepare(ctx.memory, ctx.memory_doc)
                return self._run(x, self._first(prepared), prepared, ctx.pad)[0]
            y, hidden = self._run(x, state["hidden"].to(x.dtype), state, ctx.pad)
            state["hidden"] = hidden.to(state["hidden"].dtype)
            return y

        def read_source(self, memory: Tensor, memory_doc: Tensor | None, state: dict[str, Tensor]) -> None:
            """Keep in the state what the steps need of an encoder's output (B, S, M), and what they start from."""
            prepared = self._prepare(memory, memory_doc)
            state.update(prepared)
            state["hidden"] = self._first(prepared).to(state["hidden"].dtype)

        def _prepare(self, memory: Tensor, memory_doc: Tensor | None) -> dict[str, Tensor]:
            return self.context.prepare(memory, None if memory_doc is None else _some(memory_doc != PADDING))  # type: ignore[no-any-return]

        def _first(self, prepared: dict[str, Tensor]) -> Tensor:
            return torch.tanh(self.start(self.context.first(prepared)))

        def _run(self, x: Tensor, s: Tensor, prepared: dict[str, Tensor], pad: Tensor | None) -> tuple[Tensor, Tensor]:
            """[s_{i-1}, c_i, x_i] of every position, and the last state. Padding leaves the state as it is."""
            w_hh, b_hh = self.weight_hh.to(x.dtype), self.bias_hh.to(x.dtype)
            x_T = self.input(x).unbind(1)
            states, contexts = [], []
            c = told = x.new_zeros(0)
            for i, x_i in enumerate(x_T):
                if i == 0 or self.spec.context.every_step:
                    c = self.context.read(s, prepared)
                    told = self.told(c)
                states.append(s)
                contexts.append(c)
                new = reset_first(x_i + told, s, w_hh, b_hh)
                s = new if pad is None else torch.where(pad[:, i, None], s, new)
            return torch.cat([torch.stack(states, 1), torch.stack(contexts, 1), x], dim=-1), s

        def _by_document(self, x: Tensor, ctx: Ctx, doc: Tensor) -> Tensor:
            """Lay each document on a row of its own beside its source, run them all at once, lay them back."""
            real = doc != PADDING
            place = ctx.positions[real]
            width = self.spec.width(x.shape[-1])
            if not len(place) or ctx.memory is None:
                return x.new_zeros(*doc.shape, width)
            begins = place == 0
            number = begins.cumsum(0) - 1  # which document each token belongs to
            row = torch.arange(len(doc), device=doc.device)[:, None].expand_as(doc)[real][begins]
            visible = None
            if ctx.memory_doc is not None:
                visible = _some(ctx.memory_doc[row] == doc[real][begins][:, None])
            rows = x.new_zeros(len(row), int(place.max()) + 1, x.shape[2])
            rows[number, place] = x[real]
            prepared = self.context.prepare(ctx.memory[row], visible)
            y, _ = self._run(rows, self._first(prepared), prepared, None)
            return y.new_zeros(*doc.shape, width).masked_scatter(real[..., None], y[number, place])


def _some(visible: Tensor) -> Tensor:
    """A row that sees nothing of the source (it is padding) sees all of it, so that no softmax is empty."""
    return visible | ~visible.any(1, keepdim=True)
