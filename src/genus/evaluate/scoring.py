"""The log-probability of every token of every document, each counted exactly once.

Targets of a document are its tokens and the end token after them; the first is predicted from the begin token. How much of
a document a target is predicted from depends on the model:

* attention slides: windows of `window` targets that move by `stride`, of which only those count that no window before had;
* a model whose state has a constant size (recurrence, fast weights, NNLM) reads the whole document, the state carried along;
* an n-gram sees the tokens its order allows.

Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from genus.ops.cross_entropy import IGNORE
from genus.parts.attention import Attention
from genus.parts.model import Model, forget_history
from genus.parts.ngram import NGram
from genus.spec import Spec, walk

POOL = 2**18  # tokens read ahead, so that rows of one batch are about equally long
CARRIED = 512  # positions between two cuts of a carried state
ROWS = 64
GROUP = 4096  # documents that an n-gram scores at once

How = Literal["slide", "carry", "count"]
Advance = Callable[[int], None]


def how(spec: Spec) -> How:
    """The way a model is scored.

    Raises:
        ValueError: it has no left-to-right probability.
    """
    if isinstance(spec, NGram):
        return "count"
    if not isinstance(spec, Model) or spec.encoder is not None:
        raise ValueError(
            "an encoder-decoder predicts a target given a source; genus evaluate measures left-to-right language models"
        )
    mixers = [part for part in walk(spec.stack) if isinstance(part, Attention)]
    if any(not mixer.causal for mixer in mixers):
        raise ValueError(
            "this model sees both sides of a token, so it gives no probability to a text; choose a left-to-right model"
        )
    return "slide" if mixers else "carry"


@dataclass(frozen=True)
class Scorer:
    """Scores documents with one model.

    Attributes:
        bos: the id before a document. window, stride: for models that slide. batch: positions computed at once.
    """

    model: Any
    spec: Spec
    bos: int
    window: int
    stride: int
    dtype: torch.dtype = torch.float32
    batch: int = 8192

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise ValueError(f"--stride must lie between 1 and the window of {self.window}, not {self.stride}")

    @torch.inference_mode()
    def __call__(self, documents: Iterable[np.ndarray], advance: Advance = lambda _: None) -> Iterator[np.ndarray]:
        """For each document (tokens, end token included) the natural-log probability of each of them, float32, in order."""
        run = {"slide": self._slide, "carry": self._carry, "count": self._count}[how(self.spec)]
        for pool in _pools(documents):
            yield from run(pool, advance)

    # ---- attention: windows

    def _slide(self, pool: list[np.ndarray], advance: Advance) -> list[np.ndarray]:
        scores = [np.empty(len(d), np.float32) for d in pool]
        parts = [(i, *span) for i, d in enumerate(pool) for span in spans(len(d), self.window, self.stride)]
        parts.sort(key=lambda p: p[1] - p[2])  # longest first: rows of one batch are about equally long
        start = 0
        while start < len(parts):
            length = parts[start][2] - parts[start][1]
            rows = parts[start : start + max(1, self.batch // length)]
            ids = np.full((len(rows), length), self.bos)
            targets = np.full((len(rows), length), IGNORE)
            for row, (i, first, stop, done) in enumerate(rows):
                ids[row, : stop - first] = self._inputs(pool[i], first, stop)
                targets[row, done - first : stop - first] = pool[i][done:stop]
            # Padding stands on the right, where no causal model looks: documents need no ids, and the fused kernel is kept.
            values = self._values(ids, targets)
            for row, (i, first, stop, done) in enumerate(rows):
                scores[i][done:stop] = values[row, done - first : stop - first]
                advance(stop - done)
            start += len(rows)
        return scores

    def _values(self, inputs: np.ndarray, aims: np.ndarray, state: Any = None) -> np.ndarray:
        """(B, T) log-probabilities; the read-out is computed where there is a target."""
        device = next(self.model.parameters()).device
        ids, targets = torch.from_numpy(inputs).to(device), torch.from_numpy(aims).to(device)
        hidden = self.model.hidden(ids, state=state, dtype=self.dtype)
        wanted = targets != IGNORE
        values = torch.zeros(targets.shape, device=targets.device)
        values[wanted] = self.model.head.score(hidden[wanted], targets[wanted])
        return values.cpu().numpy()

    # ---- constant state: the whole document

    def _carry(self, pool: list[np.ndarray], advance: Advance) -> list[np.ndarray]:
        scores = [np.empty(len(d), np.float32) for d in pool]
        order = sorted(range(len(pool)), key=lambda i: -len(pool[i]))
        for rows in _alike(order, [len(d) for d in pool], min(ROWS, max(1, self.batch // 64))):
            longest = len(pool[rows[0]])
            state = self.model.init_state(len(rows), 0, self.dtype)
            for a, b in pairwise([*range(0, longest, CARRIED), longest]):
                ids = np.full((len(rows), b - a), self.bos)
                targets = np.full((len(rows), b - a), IGNORE)
                for row, i in enumerate(rows):
                    piece = pool[i][a:b]
                    ids[row, : len(piece)] = self._inputs(pool[i], a, a + len(piece))
                    targets[row, : len(piece)] = piece
                values = self._values(ids, targets, state)
                state = forget_history(state)
                for row, i in enumerate(rows):
                    count = len(pool[i][a:b])
                    scores[i][a : a + count] = values[row, :count]
                    advance(count)
        return scores

    # ---- n-gram: all windows in one row, told apart by document ids

    def _count(self, pool: list[np.ndarray], advance: Advance) -> list[np.ndarray]:
        scores = [np.empty(len(d), np.float32) for d in pool]
        overlap = self.spec.order - 1  # type: ignore[attr-defined]
        parts = [(i, *span) for i, d in enumerate(pool) for span in spans(len(d), POOL, POOL - overlap)]
        for at in range(0, len(parts), GROUP):
            group = parts[at : at + GROUP]
            ids = np.concatenate([self._inputs(pool[i], first, stop) for i, first, stop, _ in group])
            targets = np.concatenate([pool[i][first:stop] for i, first, stop, _ in group]).astype(np.int64)
            doc = np.concatenate([np.full(stop - first, n) for n, (_, first, stop, _) in enumerate(group)])
            values = self.model.score(*(torch.from_numpy(x)[None] for x in (ids, targets, doc)))[0].numpy()
            place = 0
            for i, first, stop, done in group:
                scores[i][done:stop] = values[place + done - first : place + stop - first]
                place += stop - first
                advance(stop - done)
        return scores

    def _inputs(self, document: np.ndarray, first: int, stop: int) -> np.ndarray:
        """What stands before targets first .. stop - 1."""
        if first:
            return document[first - 1 : stop - 1].astype(np.int64)
        return np.concatenate([[self.bos], document[: stop - 1].astype(np.int64)])


def spans(length: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """(first, stop, done): windows over targets first .. stop - 1, of which those from `done` on count.

    All but the first count at most `stride` targets, and every window but that of a short document is full.
    """
    result, done = [], 0
    while done < length:
        stop = min(done + stride if done else window, length)
        result.append((max(0, stop - window), stop, done))
        done = stop
    return result


def _pools(documents: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    pool: list[np.ndarray] = []
    tokens = 0
    for document in documents:
        pool.append(document)
        tokens += len(document)
        if tokens >= POOL:
            yield pool
            pool, tokens = [], 0
    if pool:
        yield pool


def _alike(order: list[int], lengths: list[int], most: int) -> Iterator[list[int]]:
    """Cut a list sorted by length where it gets long, or the lengths fall below half of the first."""
    group: list[int] = []
    for i in order:
        if group and (len(group) == most or 2 * lengths[i] < lengths[group[0]]):
            yield group
            group = []
        group.append(i)
    if group:
        yield group
