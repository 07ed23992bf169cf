"""Beam search: the most probable texts that a narrow search finds, for any model with a state.

Every prompt has `width` unfinished texts, and in each step the most probable continuations of all of them go on. A text that ends
leaves the beam with a score; the search of a prompt is over when it has `width` finished texts and none of the unfinished has,
at its present length, a better score than the worst of these.

Shapes: N prompts, K unfinished texts each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genus.generate.engine import Engine
from genus.generate.sampling import OUT
from genus.generate.sequence import CONTEXT, Request
from genus.generate.state import select_rows
from genus.modalities.text import Tokenizer


@dataclass(frozen=True)
class Beam:
    """How to search.

    Attributes:
        width: unfinished texts kept for every prompt. 1 = greedy.
        length_penalty: alpha of Wu et al. (2016, eq. 14). 0 = the most probable text, which tends to be short; more favours
            longer texts.
    """

    width: int = 4
    length_penalty: float = 0.6

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"beam {self.width} must be at least 1")

    def score(self, log_p: float, tokens: int) -> float:
        """log p / ((5 + tokens) / 6) ** alpha; the end token counts."""
        return log_p / ((5 + tokens) / 6) ** self.length_penalty


@dataclass(frozen=True)
class Hypothesis:
    """A text that the search found.

    Attributes:
        ids: new tokens, an end token included. log_p: their log-probability in nats. score: what texts are ranked by.
        finish: "end" or "length".
    """

    ids: tuple[int, ...]
    log_p: float
    score: float
    finish: str


@dataclass
class _Search:
    """The search of one prompt: its unfinished texts with their log-probabilities, best first, and the finished ones."""

    number: int
    request: Request
    limit: int
    alive: list[tuple[float, tuple[int, ...]]]
    finished: list[Hypothesis]

    def best(self) -> list[Hypothesis]:
        return sorted(self.finished, key=lambda h: -h.score)

    def over(self, beam: Beam) -> bool:
        if not self.alive:
            return True
        if len(self.finished) < beam.width:
            return False
        log_p, ids = self.alive[0]
        return beam.score(log_p, len(ids)) <= self.best()[beam.width - 1].score


def text_of(tokenizer: Tokenizer, request: Request, ids: Sequence[int]) -> str:
    """New tokens as text, in the light of what stands before them."""
    before = list(request.ids[-CONTEXT:])
    return tokenizer.decode([*before, *ids])[len(tokenizer.decode(before)) :]


@torch.inference_mode()
def beam_search(
    engine: Engine, requests: Sequence[Request], beam: Beam = Beam(), batch: int = 16
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """The best `beam.width` texts of every request, `batch` requests at once, those of about the same length together.

    What is found does not depend on the other requests, but for rounding. How a request samples, and its stop strings, play no
    part.

    Yields:
        number of the request, its texts, the best first.

    Raises:
        ValueError: a prompt or source is too long for the model.
    """
    engine.check(requests)
    order = sorted(range(len(requests)), key=lambda i: (len(requests[i].source or ()), len(requests[i].ids)))
    for start in range(0, len(order), batch):
        yield from _together(engine, [(i, requests[i]) for i in order[start : start + batch]], beam)


def _together(engine: Engine, numbered: list[tuple[int, Request]], beam: Beam) -> Iterator[tuple[int, list[Hypothesis]]]:
    searches = []
    for number, request in numbered:
        room = request.max_tokens if engine.limit is None else min(request.max_tokens, engine.limit - len(request.ids) + 1)
        searches.append(_Search(number, request, room, [(0.0, ())], []))
    longest = max(len(s.request.ids) for s in searches) + max(s.limit for s in searches)
    prompts = [s.request.ids for s in searches]
    sources = [s.request.source for s in searches if s.request.source is not None]
    state = engine.blank(len(searches), longest, sources or None)
    logits = engine.read(prompts, state)
    while True:
        rows = _advance(engine, searches, logits, beam)
        going = [s for s in searches if not s.over(beam)]
        yield from ((s.number, s.best()[: beam.width]) for s in searches if s.over(beam))
        if not going:
            return
        chosen = torch.tensor([row for s, own in zip(searches, rows) if not s.over(beam) for row in own], device=engine.device)
        if len(chosen) != len(logits) or not torch.equal(chosen, torch.arange(len(chosen), device=engine.device)):
            state = select_rows(state, chosen)
        searches = going
        logits = engine.read([[ids[-1]] for s in searches for _, ids in s.alive], state)


def _advance(engine: Engine, searches: list[_Search], logits: Tensor, beam: Beam) -> list[list[int]]:
    """One token more for every search. Returns, for each, which row of the batch its unfinished texts go on from."""
    log_p = logits.log_softmax(-1)
    before = torch.tensor([p for s in searches for p, _ in s.alive], dtype=log_p.dtype, device=log_p.device)
    total = log_p + before[:, None]
    wanted = min(beam.width + len(engine.ends), total.shape[1])  # at most one end of each kind, beside `width` others
    values, tokens = total.topk(max(wanted, min(2 * beam.width, total.shape[1])), dim=1)
    listed: list[Any] = list(zip(values.tolist(), tokens.tolist()))
    result, row = [], 0
    for search in searches:
        found = []
        for place, _ in enumerate(search.alive):
            found += [(p, -place, -token) for p, token in zip(*listed[row + place]) if p > OUT]
        found.sort(reverse=True)  # of equals, the earlier text and the lower token first
        alive: list[tuple[float, tuple[int, ...]]] = []
        rows: list[int] = []
        for rank, (p, negative_place, negative_token) in enumerate(found):
            place, token = -negative_place, -negative_token
            ids = (*search.alive[place][1], token)
            if token in engine.ends:
                if rank < beam.width:
                    search.finished.append(Hypothesis(ids, p, beam.score(p, len(ids)), "end"))
            elif len(alive) < beam.width:
                alive.append((p, ids))
                rows.append(row + place)
        row += len(search.alive)
        if alive and len(alive[0][1]) >= search.limit:
            search.finished += [Hypothesis(ids, p, beam.score(p, len(ids)), "length") for p, ids in alive]
            alive, rows = [], []
        search.alive = alive
        result.append(rows)
    return result
