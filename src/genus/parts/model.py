"""Model: embeddings, one or two stacks, a head. Decoder = one stack; encoder-decoder = two; ELMo = one for each direction.

Shapes: B batch, T time, S source time, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genus.ops.host import both
from genus.parts.block import Stack
from genus.parts.ctx import PADDING, Ctx, Ragged, document_positions
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.init import Init
from genus.parts.task_head import TaskHead, Vectors
from genus.spec import Spec

State = dict[str, Any]


@dataclass(frozen=True)
class Model(Spec):
    """A probability for sequences of tokens.

    Attributes:
        dim: width of the residual stream. embed: token table. stack: the layers. encoder: a second stack over a source
        sequence, which the first may cross-attend to. head: the read-out, of tokens, of a task, or none. init: initial weights.
        reverse: a stack that reads the same text from right to left (ELMo). A head of tokens reads one direction at a time,
        from `hidden` or `hidden_reverse`; any other reads both side by side.
    """

    dim: int = 128
    embed: Embedding = Embedding()
    stack: Stack = Stack()
    encoder: Stack | None = None
    head: Head | TaskHead | Vectors = Head()
    init: Init = Init()
    reverse: Stack | None = None

    def build(self, dim: int | None = None) -> Model.Module:
        """The model, with weights drawn from torch's current random state."""
        return Model.Module(self)

    def parameters(self, dim: int | None = None) -> int:
        count = self.embed.parameters(self.dim) + self.stack.parameters(self.dim)
        count += sum(stack.parameters(self.dim) for stack in (self.encoder, self.reverse) if stack)
        return count + self.head.count(self.reads, self.embed.vocab)

    def flops(self, dim: int | None = None, length: int = 1024) -> float:
        """Forward operations per target position; an encoder is counted as if the source were as long as the target.

        Of two directions it is the one that `forward` runs, or both where the head reads both.
        """
        count = self.stack.flops(self.dim, length) + self.head.work(self.reads, self.embed.vocab)
        embed = self.embed.flops(self.dim, length)
        others = (self.encoder, self.reverse if self.reads_both else None)
        return count + embed + sum(embed + stack.flops(self.dim, length) for stack in others if stack)

    @property
    def reads_both(self) -> bool:
        """Whether the head reads two directions side by side."""
        return self.reverse is not None and not isinstance(self.head, Head)

    @property
    def reads(self) -> int:
        """Width of the vectors that the head reads."""
        behind = self.reverse.width(self.dim) if self.reverse and self.reads_both else 0
        return self.stack.width(self.dim) + behind

    @property
    def context(self) -> int | None:
        """Longest sequence the model accepts; None = no limit."""
        return getattr(self.embed.positions, "length", None)

    class Module(nn.Module):
        def __init__(self, spec: Model) -> None:
            super().__init__()
            self.spec = spec
            self.embed = spec.embed.build(spec.dim)
            self.encoder = spec.encoder.build(spec.dim) if spec.encoder else None
            self.stack = spec.stack.build(spec.dim)
            self.reverse = spec.reverse.build(spec.dim) if spec.reverse else None
            head: Any = spec.head
            self.head = head.Module(head, spec.reads, spec.embed.vocab, self.embed.tokens.weight)
            _check_mixture(spec)
            spec.init.apply(self, spec.stack.depth)

        def forward(
            self,
            ids: Tensor,
            doc: Tensor | None = None,
            state: State | None = None,
            source: Tensor | None = None,
            source_doc: Tensor | None = None,
            types: Tensor | None = None,
            dtype: torch.dtype = torch.float32,
        ) -> Tensor:
            """Logits (B, T, V) in float32 for token ids (B, T); what a task's head gives, where the model has one.

            Args:
                doc: (B, T) document ids, -1 for padding; None = every row is one document.
                state: what `init_state` made; ids continue where the last call ended, and the state is updated.
                source, source_doc: (B, S) ids of the encoder's text and their documents. types: (B, T) segment types.
                dtype: precision of the activations; the weights stay as they are.

            Raises:
                ValueError: the sequence is longer than the model's positions or the state.
            """
            hidden = self.hidden(ids, doc, state, source, source_doc, types, dtype)
            return self.head(hidden, doc)  # type: ignore[no-any-return]

        def hidden(
            self,
            ids: Tensor,
            doc: Tensor | None = None,
            state: State | None = None,
            source: Tensor | None = None,
            source_doc: Tensor | None = None,
            types: Tensor | None = None,
            dtype: torch.dtype = torch.float32,
        ) -> Tensor:
            """Vectors (B, T, width) that the head reads. Arguments as in `forward`."""
            mix = getattr(self.head, "mix", None)
            if mix is not None or self.spec.reads_both:
                if state is not None:
                    raise ValueError("a head that reads both directions, or all layers, needs the whole text in one call")
                layers = self.layers(ids, doc, source, source_doc, types, dtype)
                return layers[-1] if mix is None else mix(layers)
            return self._forward(ids, doc, state, source, source_doc, types, dtype)

        def _forward(
            self,
            ids: Tensor,
            doc: Tensor | None,
            state: State | None,
            source: Tensor | None,
            source_doc: Tensor | None,
            types: Tensor | None,
            dtype: torch.dtype,
            layers: list[Tensor] | None = None,
        ) -> Tensor:
            """The stack's output; `layers` is filled with those of all its layers."""
            ctx = self._context(ids, doc, state)
            ctx.layers = layers
            if self.encoder is not None:
                if source is None and (state is None or "memory_doc" not in state):
                    raise ValueError("this is an encoder-decoder: give the encoder's text as `source`")
                if state is None and source is not None:
                    ctx.memory, ctx.memory_doc = self.encode(source, source_doc, dtype), source_doc
                elif state is not None and source is not None:
                    self.read_source(source, source_doc, state, dtype)
                if state is not None:
                    ctx.memory_doc = state["memory_doc"]
            x = self.embed(ids, ctx.positions, types, dtype)
            y = self.stack(x, ctx, None if state is None else state["layers"])
            if state is not None:
                self._advance(state, ctx, ids.shape[1])
            return y  # type: ignore[no-any-return]

        def decode(self, ids: Tensor, state: State, dtype: torch.dtype, through: Callable[..., Tensor] | None = None) -> Tensor:
            """Logits (B, T, V) after equally many tokens for each row (B, T), of a state whose rows have lengths of their own.

            Args:
                through: what stands for `self.through`, with its arguments.
            """
            time = ids.shape[1]
            ctx = _ragged(state["start"], time, None, ids.device, equal=False)
            self._check(ctx, None)
            if self.encoder is not None:
                ctx.memory_doc = state["memory_doc"]
            logits = (through or self.through)(self.embed(ids, ctx.positions, None, dtype), ctx, state["layers"])
            self._advance(state, ctx, time)
            return logits

        def through(self, x: Tensor, ctx: Ctx, layers: Any) -> Tensor:
            """Logits (B, T, V) of tokens' vectors (B, T, D): the stack, which moves the state of its layers on, and the head."""
            return self.head(self.stack(x, ctx, layers))  # type: ignore[no-any-return]

        def hidden_reverse(
            self,
            ids: Tensor,
            doc: Tensor | None = None,
            types: Tensor | None = None,
            dtype: torch.dtype = torch.float32,
            layers: list[Tensor] | None = None,
        ) -> Tensor:
            """Vectors (B, T, width) of the direction from right to left: a position has read itself and what follows it.

            Args:
                layers: filled with the outputs of all layers. The others as in `forward`.
            """
            if self.reverse is None:
                raise ValueError("this model reads from left to right only")
            back = ids.flip(1)
            ctx = self._context(back, None if doc is None else both(doc, lambda ids: ids.flip(1)), None)
            ctx.layers = None if layers is None else []
            y = self.reverse(self.embed(back, ctx.positions, None if types is None else types.flip(1), dtype), ctx)
            if layers is not None:
                layers += [each.flip(1) for each in ctx.layers or ()]
            return y.flip(1)  # type: ignore[no-any-return]

        def layers(
            self,
            ids: Tensor,
            doc: Tensor | None = None,
            source: Tensor | None = None,
            source_doc: Tensor | None = None,
            types: Tensor | None = None,
            dtype: torch.dtype = torch.float32,
        ) -> list[Tensor]:
            """Outputs of all layers: the embedding's, then each layer's; `depth` + 1 tensors (B, T, width).

            The last is the stack's own output, after its final norm. Between two layers stands the residual stream, which is
            normalised where the wiring normalises it; of ResiDual's two streams it is the one that the sublayers read. Two
            directions stand side by side. Of an encoder-decoder without `source` it is the encoder that reads the text.
            Arguments as in `forward`.
            """
            found: list[Tensor] = []
            if self.encoder is not None and source is None:
                self.encode(ids, doc, dtype, found)
                return found
            self._forward(ids, doc, None, source, source_doc, types, dtype, found)
            if self.reverse is None:
                return found
            behind: list[Tensor] = []
            self.hidden_reverse(ids, doc, types, dtype, behind)
            return [torch.cat(pair, dim=-1) for pair in zip(found, behind, strict=True)]

        def encode(
            self,
            source: Tensor,
            source_doc: Tensor | None = None,
            dtype: torch.dtype = torch.float32,
            layers: list[Tensor] | None = None,
        ) -> Tensor:
            """The encoder's output (B, S, D); `layers` is filled with those of all its layers."""
            if self.encoder is None:
                raise ValueError("this model has no encoder")
            ctx = self._context(source, source_doc, None)
            ctx.layers = layers
            return self.encoder(self.embed(source, ctx.positions, None, dtype), ctx)  # type: ignore[no-any-return]

        def read_source(
            self, source: Tensor, source_doc: Tensor | None, state: State, dtype: torch.dtype = torch.float32
        ) -> None:
            """Put into the state what the layers need of the encoder's text (B, S): the decoder starts from there."""
            self.stack.read_source(self.encode(source, source_doc, dtype), source_doc, state["layers"])
            state["memory_doc"] = source_doc

        def score(
            self,
            inputs: Tensor,
            targets: Tensor,
            doc: Tensor | None = None,
            dtype: torch.dtype = torch.float32,
        ) -> Tensor:
            """(B, T) natural-log probability of each target, 0 where the target is -100."""
            return self.head.score(self.hidden(inputs, doc, dtype=dtype), targets)  # type: ignore[no-any-return]

        def init_state(
            self,
            batch: int,
            length: int,
            dtype: torch.dtype = torch.float32,
            device: torch.device | None = None,
        ) -> State:
            """An empty state for `batch` rows and up to `length` positions: plain data that a caller may copy, slice or save.

            Its `start`, the number of positions that it holds, may be replaced by a tensor (B,), best on the processor: then the
            rows hold different numbers of them. A call's `doc` then holds 0 for tokens and -1 for padding, which stands at the
            end of a row and takes no place in it.
            """
            device = device or self.embed.tokens.weight.device
            layers = self.stack.init_state(batch, length, dtype, device)
            return {"start": 0, "doc": None, "last_doc": None, "layers": layers}

        def _context(self, ids: Tensor, doc: Tensor | None, state: State | None) -> Ctx:
            ctx = self._located(ids, doc, state)
            self._check(ctx, None if state is not None and "seen" in state else ctx.start + ids.shape[1])
            return ctx

        def _check(self, ctx: Ctx, end: int | None) -> None:
            """Raises ValueError: a position has no row in the table. `end`: all lie before it; None = the device is asked."""
            length, end = self.spec.context, end if ctx.ragged is None else ctx.ragged.end
            if length is None or (end is not None and end <= length) or torch.compiler.is_compiling():
                return
            last = int(ctx.positions.max()) if ctx.positions.numel() else -1
            if last >= length:
                raise ValueError(
                    f"position {last} lies beyond the {length} learned positions of this model; "
                    "shorten the text, or choose a recipe with rotary or relative positions"
                )

        def _located(self, ids: Tensor, doc: Tensor | None, state: State | None) -> Ctx:
            start = 0 if state is None else state["start"]
            batch, time = ids.shape[:2]  # vectors in the place of ids, (B, T, F), are the token table's affair
            if isinstance(start, Tensor):
                return _ragged(start, time, doc, ids.device)
            last = None if state is None else state["last_doc"]
            if doc is None and last is not None:
                doc = last[:, None].expand(batch, time)
            if doc is None:
                begin = start + (0 if state is None else state.get("seen", 0))
                return Ctx(torch.arange(begin, begin + time, device=ids.device), start=start)
            past = None if state is None else state["doc"]
            if past is None:  # what came before without document ids was document 0
                past = doc.new_zeros(batch, start)
                last = past[:, -1] if start else last
            key_doc = torch.cat([past, doc], dim=1)
            positions = document_positions(key_doc)
            if state is not None and "seen_doc" in state:  # the document that `forget_history` cut through goes on counting
                goes_on = (positions == (key_doc != PADDING).cumsum(1) - 1) & (key_doc == state["seen_doc"][:, None])
                positions = positions + state["seen"][:, None] * goes_on
            return Ctx(positions[:, start:], doc, start, key_doc, last)

        def _advance(self, state: State, ctx: Ctx, time: int) -> None:
            if isinstance(state["start"], Tensor):
                state["start"] = state["start"] + (time if ctx.doc is None else (ctx.doc != PADDING).sum(1).to(state["start"]))
                return
            state["start"] = ctx.start + time
            if ctx.doc is None:
                return
            state["doc"] = ctx.key_doc
            where = ctx.newest.clamp(min=0)[:, None]
            state["last_doc"] = ctx.ending
            reached = ctx.positions.gather(1, where)[:, 0] + 1
            state["reached"] = torch.where(ctx.newest >= 0, reached, state.get("reached", 0))


def _ragged(start: Tensor, time: int, doc: Tensor | None, device: torch.device, equal: bool = True) -> Ctx:
    """The context of rows that hold `start` (B,) positions each; `doc` (B, T) marks padding at their ends.

    `equal`: rows of equal length need not be told apart.
    """
    before = start.tolist()
    counts = [time] * len(before) if doc is None else (doc != PADDING).sum(1).tolist()
    doc = None if min(counts) == time else doc
    if equal and min(before) == max(before):
        return Ctx(torch.arange(before[0], before[0] + time, device=device), doc, before[0])
    start, rows = start.to(device), torch.arange(len(before), device=device)
    if time == 1:  # every step of decoding comes here
        places, columns = start[:, None], start
    else:
        places = start[:, None] + torch.arange(time, device=device)
        rows, columns = rows.repeat_interleave(time), places.flatten()
    times: Tensor | None = None
    if doc is not None:
        rows, times = (doc != PADDING).nonzero(as_tuple=True)
        columns = places[rows, times]
        last = start + torch.tensor(counts, device=device) - 1
        places = torch.minimum(places, last[:, None]).clamp(min=0)  # padding may stand beyond the last position of a table
    ends = tuple(a + b for a, b in zip(before, counts, strict=True))
    return Ctx(places, doc, max(before), ragged=Ragged(rows, times, columns, (tuple(before), ends), max(ends)))


def _check_mixture(spec: Model) -> None:
    """A mixture must know how many layers there are, and all of them must be equally wide."""
    mix = getattr(spec.head, "mix", None)
    widths = [width for _, width in spec.stack.layers(spec.dim)] + [spec.stack.width(spec.dim)]
    if mix is not None and (mix.layers != len(widths) or len(set(widths)) > 1):
        raise ValueError(
            f"model.head.mix mixes {mix.layers} layers of one width, but the model has {len(widths)}, the embedding's output "
            f"being one of them, {', '.join(map(str, widths))} wide; set model.head.mix.layers={len(widths)}"
        )


def forget_history(state: State) -> State:
    """The same state, cut from its gradients and from the list of past positions: what a recurrent stream carries on.

    Truncated back-propagation through time hands this to the next batch. Only models whose mixers keep a constant-size state
    can use it; attention needs its history.
    """

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return both(value, Tensor.detach)
        if isinstance(value, dict):
            return {k: cut(v) for k, v in value.items()}
        return [cut(v) for v in value] if isinstance(value, list) else value

    state = cut(state)
    if state["doc"] is None:
        return {**state, "start": 0, "seen": state["start"] + state.get("seen", 0)}
    return {**state, "start": 0, "doc": None, "seen": state["reached"], "seen_doc": state["last_doc"]}
