"""Engine: decode many requests together, each as if it were alone.

A `Batch` is a set of sequences that share one state object. `Batch.step` adds a token to each; rows that end drop out. Prompts of
different length stand right-aligned: padding (document -1) first, then the prompt's document (0), so that all rows read and write
the same column. Whatever a model remembers (keys and values, a window of inputs, an LSTM's cell, fast weights, the last words of
an n-gram) lives in the state.

A model with a table of positions can see only so many tokens. A sequence that outgrows it goes on with the last half of them: the
state is made anew from those tokens, which costs one pass per half context.

Shapes: B rows, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Sequence_
from typing import Any

import torch
from torch import Tensor

from genus.generate.sampling import OUT, choose
from genus.generate.sequence import Request, Sequence
from genus.generate.state import select_rows
from genus.modalities.text import Tokenizer
from genus.parts.ctx import PADDING

PREFILL = 512  # prompt positions read at once: bounds the memory of a long prompt
PREFILL_LOGITS = 32  # the same for models that only give logits, of which each position has a whole vocabulary


class Engine:
    """A model made ready to generate.

    Args:
        model: a module with `forward` and `init_state` that predicts the next token. Its weights are not changed; use
            `half_precision` for bfloat16 arithmetic. tokenizer: its tokenizer.
        ends: further tokens that end a text, beside the tokenizer's eos. dtype: precision of the activations and the state.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, ends: Iterable[int] = (), dtype: torch.dtype = torch.float32) -> None:
        if model.training:
            raise ValueError("the model is in training mode, in which dropout would disturb it; call model.eval() first")
        self.model = model
        self.tokenizer = tokenizer
        self.ends = frozenset(ends) | {tokenizer.eos_id}
        self.dtype = dtype
        self.device = next(iter([*model.parameters(), *model.buffers()])).device
        self.limit: int | None = model.spec.context

    def start(self, requests: Sequence_[Request]) -> Batch:
        """A batch of these requests; nothing is computed yet.

        Raises:
            ValueError: a prompt is longer than the model's positions, or holds a token that it does not have.
        """
        self.check(requests)
        return Batch(self, [Sequence(request, self.tokenizer, self.ends) for request in requests])

    def check(self, requests: Sequence_[Request]) -> None:
        """Raises ValueError: a prompt or a source is longer than the model's positions, or a source is missing."""
        for request in requests:
            for name, ids in (("prompt", request.ids), ("source", request.source or ())):
                if self.limit is not None and len(ids) > self.limit:
                    raise ValueError(
                        f"the {name} has {len(ids)} tokens and this model has positions for {self.limit}; shorten the {name}"
                    )
            if (request.source is not None) != (getattr(self.model.spec, "encoder", None) is not None):
                raise ValueError("an encoder-decoder needs a source with every request, and no other model reads one")

    def run(self, requests: Sequence_[Request], batch: int = 16) -> Iterator[tuple[int, str, Sequence]]:
        """Serve all requests, at most `batch` at once, the long prompts together.

        Yields:
            number of the request, text that has become certain, its sequence. `sequence.finish` says when it is the last.
        """
        order = list(range(len(requests)))
        if 1 < batch < len(requests):
            order.sort(key=lambda i: (len(requests[i].source or ()), len(requests[i].ids)))
        groups = [order[i : i + batch] for i in range(0, len(order), batch)]
        for group in groups:
            running = self.start([requests[i] for i in group])
            number = {id(sequence): i for i, sequence in zip(group, running.sequences)}
            while running.sequences:
                for sequence, piece in running.step():
                    yield number[id(sequence)], piece, sequence

    def logits(
        self,
        ids: Tensor,
        doc: Tensor | None,
        state: dict[str, Any],
        source: Tensor | None = None,
        source_doc: Tensor | None = None,
    ) -> Tensor:
        """(B, V) logits of the token after the last column of `ids` (B, T); the state moves on."""
        if not hasattr(self.model, "hidden"):
            return self.model(ids, doc=doc, state=state, dtype=self.dtype)[:, -1]  # type: ignore[no-any-return]
        given = {} if source is None else {"source": source, "source_doc": source_doc}
        hidden = self.model.hidden(ids, doc=doc, state=state, dtype=self.dtype, **given)
        return self.model.head(hidden[:, -1:])[:, 0]  # type: ignore[no-any-return]

    def read(
        self, prompts: Sequence_[Sequence_[int]], sources: Sequence_[Sequence_[int] | None], room: int
    ) -> tuple[Tensor, dict[str, Any]]:
        """(B, V) logits of what follows the prompts, and the state, which has room for so many columns."""
        ids, doc = _right_aligned(prompts)
        ids, doc = ids.to(self.device), doc.to(self.device)
        padded = bool((doc == PADDING).any())
        given: dict[str, Tensor | None] = {}
        if sources[0] is not None:
            read, read_doc = _right_aligned([source or () for source in sources])
            uneven = bool((read_doc == PADDING).any())
            given = {"source": read.to(self.device), "source_doc": read_doc.to(self.device) if uneven or padded else None}
        state = self.model.init_state(len(ids), room, self.dtype, self.device)
        chunk = PREFILL if hasattr(self.model, "hidden") else PREFILL_LOGITS
        for a in range(0, ids.shape[1], chunk):
            part = slice(a, a + chunk)
            logits = self.logits(ids[:, part], doc[:, part] if padded else None, state, **(given if a == 0 else {}))
        return logits, state


class Batch:
    """Sequences that are decoded in step. `sequences` holds those that are not finished."""

    def __init__(self, engine: Engine, sequences: list[Sequence]) -> None:
        self.engine = engine
        self.sequences = sequences
        self._state: dict[str, Any] | None = None
        self._room = 0  # columns that the state was made for

    @torch.inference_mode()
    def step(self) -> list[tuple[Sequence, str]]:
        """Add a token to every sequence; finished ones leave. Returns each with the text that has become certain."""
        if not self.sequences:
            return []
        logits = self._next_logits()
        logits[:, self.engine.tokenizer.vocab_size :] = OUT  # a table may be larger than the vocabulary
        uniform = torch.tensor([s.uniform() for s in self.sequences], dtype=torch.float64)
        chosen = choose(logits, [s.request.sampling for s in self.sequences], uniform).tolist()
        result = [(s, s.push(number)) for s, number in zip(self.sequences, chosen)]
        self._drop_finished()
        return result

    def _next_logits(self) -> Tensor:
        limit = self.engine.limit
        for sequence in self.sequences:
            if limit is not None and len(sequence.visible) > limit:
                sequence.first = len(sequence.ids) - max(1, limit // 2)
                self._state = None
        if self._state is None or self._state["start"] >= self._room:
            return self._prefill()
        last = torch.tensor([[s.ids[-1]] for s in self.sequences], device=self.engine.device)
        return self.engine.logits(last, None, self._state)

    def _prefill(self) -> Tensor:
        """Read what every sequence shows, from an empty state."""
        visible = [s.visible for s in self.sequences]
        self._room = max(map(len, visible)) + max(self._more(s) for s in self.sequences)
        logits, self._state = self.engine.read(visible, [s.request.source for s in self.sequences], self._room)
        return logits

    def _more(self, sequence: Sequence) -> int:
        """Tokens that may be added before this sequence ends or outgrows the model's positions."""
        limit = self.engine.limit
        return sequence.remaining if limit is None else min(sequence.remaining, limit - len(sequence.visible))

    def _drop_finished(self) -> None:
        alive = [i for i, s in enumerate(self.sequences) if s.finish is None]
        if len(alive) == len(self.sequences):
            return
        self.sequences = [self.sequences[i] for i in alive]
        if alive:
            self._state = select_rows(self._state, torch.tensor(alive, device=self.engine.device))


def _right_aligned(rows: Sequence_[Sequence_[int]]) -> tuple[Tensor, Tensor]:
    """(B, longest) ids with padding before the short rows, and their documents."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    doc = torch.full_like(ids, PADDING)
    for row, tokens in enumerate(rows):
        ids[row, width - len(tokens) :] = torch.tensor(tokens, dtype=torch.long)
        doc[row, width - len(tokens) :] = 0
    return ids, doc


def half_precision(model: Any) -> Any:
    """A copy of a model whose matrices are bfloat16, so that they need not be converted at every step; vectors stay float32."""
    import copy

    model = copy.deepcopy(model)
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            parameter.data = parameter.data.to(torch.bfloat16)
    return model
