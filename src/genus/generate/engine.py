"""Engine: a model made ready to generate, and the one way in which its states move.

Whatever a model remembers (keys and values, a window of inputs, an LSTM's cell, fast weights, the last words of an n-gram) lives
in a state whose rows go on independently: each has its own length, and reads its own number of tokens in a call. So one call
serves to read prompts of different length, to decode a token for each of many rows, and to check several guessed tokens of each.

Shapes: B rows, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Sequence_
from typing import Any

import torch
from torch import Tensor

from genus.generate.decoder import Decoder
from genus.generate.replay import Replays
from genus.generate.sampling import OUT
from genus.generate.scheduler import Scheduler
from genus.generate.sequence import Request, Sequence
from genus.generate.state import Layout, State, restore
from genus.modalities.text import Tokenizer
from genus.parts.ctx import PADDING
from genus.parts.ring import SPARE

PREFILL = 512  # positions of a row read at once: bounds the memory of a long prompt
PREFILL_LOGITS = 32  # the same for models that only give logits, of which each position has a whole vocabulary


class Engine:
    """A model made ready to generate.

    Args:
        model: a module with `forward` and `init_state` that predicts the next token. Its weights are not changed; use
            `weights.ready` for fewer bits. tokenizer: its tokenizer.
        ends: further tokens that end a text, beside the tokenizer's eos. dtype: precision of the activations and the state.

    Attributes:
        limit: positions that the model has; None = no limit. layout: of its states. back: tokens that may be taken back from a
            state; None = any number.
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
        self.layout = Layout(model, dtype)
        self.back = SPARE if self.layout.rings else None
        self._replays = Replays(model, self.layout)

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

    def run(
        self, requests: Sequence_[Request], batch: int = 16, decoder: Decoder | None = None
    ) -> Iterator[tuple[int, str, Sequence]]:
        """Serve all requests, at most `batch` at once, the short prompts first.

        Yields:
            number of the request, text that has become certain, its sequence. `sequence.finish` says when it is the last.

        Raises:
            ValueError: a prompt is longer than the model's positions, or holds a token that it does not have.
        """
        self.check(requests)
        if not requests:
            return
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].source or ()), len(requests[i].ids)))
        scheduler = Scheduler(
            self, slots=min(batch, len(requests)), chunk=batch * PREFILL, waiting=len(requests), decoder=decoder
        )
        number = {scheduler.submit(requests[i]): i for i in order}
        while scheduler.busy:
            for event in scheduler.step():
                yield number[event.ticket], event.piece, event.ticket.sequence

    def blank(self, rows: int, room: int = 0, sources: Sequence_[Sequence_[int]] | None = None) -> State:
        """A state of rows that have read nothing, or, of an encoder-decoder, their sources alone.

        Args:
            room: positions that each row may come to have.
        """
        state: State = self.model.init_state(rows, room, self.dtype, self.device)
        state["start"] = torch.zeros(rows, dtype=torch.long)  # on the processor, where nobody waits for it
        if sources is not None:
            ids, doc = _left_aligned(sources)
            self.model.read_source(ids.to(self.device), doc.to(self.device), state, self.dtype)
            self.layout.learn(state)
        return state

    def read(self, rows: Sequence_[Sequence_[int]], state: State, every: bool = False) -> Tensor:
        """Read the tokens of every row, each its own number of them. The state moves on.

        Args:
            rows: B lists; a row may have none.

        Returns:
            (B, V) float32 logits after the last token of each row, or with `every` (B, T, V) after each token, T being the
            longest row's number of them. Where there is no such token they mean nothing. What is no token of the tokenizer has
            -inf: a model's table may be larger. The result holds until the next call.
        """
        size = PREFILL if hasattr(self.model, "hidden") else PREFILL_LOGITS
        longest = max(map(len, rows))
        if longest <= size:
            return self._read(rows, state, every)
        pieces = [[row[a : a + size] for row in rows] for a in range(0, longest, size)]
        found = [self._read(piece, state, every) for piece in pieces]
        if every:
            return torch.cat(found, 1)
        last = torch.tensor([max(0, len(row) - 1) // size for row in rows], device=self.device)
        return torch.stack(found)[last, torch.arange(len(rows), device=self.device)]

    def rewind(self, state: State, before: State, rows: Sequence_[Sequence_[int]]) -> None:
        """Put a state, in place, back to a snapshot of it, and forward by the first tokens that it has read since then.

        Args:
            rows: B lists, these first tokens. Where nothing but keys and values is kept, only their number counts.
        """
        restore(state, before)
        if not self.layout.constant:
            state["start"] = state["start"] + torch.tensor([len(row) for row in rows])
        elif any(rows):
            self.read(rows, state)

    def _read(self, rows: Sequence_[Sequence_[int]], state: State, every: bool) -> Tensor:
        if len(set(map(len, rows))) == 1:
            ids, doc = torch.tensor(rows, dtype=torch.long), None
        else:
            ids, doc = _left_aligned(rows)
        if (every or ids.shape[1] == 1) and doc is None and self._replays.takes(ids, state):  # prompts come but once
            logits = self._replays.logits(ids, state, self.dtype)
            logits = logits if every else logits[:, 0]
        else:
            doc = None if doc is None else doc.to(self.device)
            logits = self._logits(ids.to(self.device), doc, rows, state, every)
        if logits.shape[-1] > self.tokenizer.vocab_size:
            logits[..., self.tokenizer.vocab_size :] = OUT
        return logits

    def _logits(self, ids: Tensor, doc: Tensor | None, rows: Sequence_[Sequence_[int]], state: State, every: bool) -> Tensor:
        """Of any tokens; no vector meets the vocabulary that nobody asks for."""
        whole = not hasattr(self.model, "hidden")
        vectors: Tensor = (self.model if whole else self.model.hidden)(ids, doc=doc, state=state, dtype=self.dtype)
        if not every and ids.shape[1] == 1:
            vectors = vectors[:, 0]
        elif not every:
            last = torch.tensor([max(0, len(row) - 1) for row in rows], device=self.device)
            vectors = vectors[torch.arange(len(rows), device=self.device), last]
        return vectors if whole else self.model.head(vectors)  # type: ignore[no-any-return]


def _left_aligned(rows: Sequence_[Sequence_[int]]) -> tuple[Tensor, Tensor]:
    """(B, longest) ids with padding behind the short rows, and their documents."""
    width = max(map(len, rows))
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.long)
    return ids, torch.where(torch.arange(width) < lengths[:, None], 0, PADDING)
