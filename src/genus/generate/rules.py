"""Rules that change a row's logits before a token is drawn: bias, penalties, and what a constraint allows.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from genus.generate.constraint import Guide
    from genus.generate.sampling import Sampling

OUT = float("-inf")


class Rules:
    """The rules of one row, with what they look back on.

    Args:
        sampling: names the rules. ids: the prompt. ends: tokens that end a text: no penalty counts them, since a prompt often
            begins with the one that would end the text. guide: what the row's constraint allows.

    Attributes:
        active: whether they change anything.
    """

    def __init__(self, sampling: Sampling, ids: Iterable[int], ends: frozenset[int], guide: Guide | None = None) -> None:
        self.guide = guide
        self._sampling, self._ends = sampling, ends
        repeats = sampling.repetition_penalty != 1
        counts = bool(sampling.frequency_penalty or sampling.presence_penalty)
        self._seen = set(ids) - ends if repeats else None
        self._new: Counter[int] | None = Counter() if counts else None
        self.active = repeats or counts or bool(sampling.logit_bias) or guide is not None

    def push(self, number: int) -> None:
        """A token was added to the row."""
        if number in self._ends:
            return
        if self._seen is not None:
            self._seen.add(number)
        if self._new is not None:
            self._new[number] += 1
        if self.guide is not None:
            self.guide.push(number)

    def copy(self) -> Rules:
        """The same rules, to try tokens on."""
        other = object.__new__(Rules)
        other.active, other._sampling, other._ends = self.active, self._sampling, self._ends
        other.guide = None if self.guide is None else self.guide.copy()
        other._seen = None if self._seen is None else set(self._seen)
        other._new = None if self._new is None else Counter(self._new)
        return other

    def adjust(self, logits_V: Tensor) -> None:
        """Change the row's logits in place: bias (first, as transformers' `sequence_bias`), penalties, constraint."""

        def at(tokens: Collection[int]) -> Tensor:
            return torch.tensor(list(tokens), dtype=torch.long, device=logits_V.device)

        def numbers(values: Collection[float]) -> Tensor:
            return torch.tensor(list(values), dtype=logits_V.dtype, device=logits_V.device)

        rules = self._sampling
        if rules.logit_bias:
            tokens, biases = zip(*rules.logit_bias)
            logits_V.index_add_(0, at(tokens), numbers(biases))
        if self._seen:
            index = at(self._seen)
            old = logits_V[index]
            logits_V[index] = torch.where(old < 0, old * rules.repetition_penalty, old / rules.repetition_penalty)
        if self._new:
            less = [rules.frequency_penalty * count + rules.presence_penalty for count in self._new.values()]
            logits_V.index_add_(0, at(self._new.keys()), -numbers(less))
        if self.guide is not None:
            allowed = self.guide.allowed().to(logits_V.device)
            logits_V[: len(allowed)].masked_fill_(~allowed, OUT)
            logits_V[len(allowed) :] = OUT


def adjusted(logits_BV: Tensor, rows: Sequence[Rules]) -> Tensor:
    """The logits by every row's rules: a copy, or the same tensor when no row has any."""
    touched = [i for i, row in enumerate(rows) if row.active]
    if not touched:
        return logits_BV
    result = logits_BV.clone()
    for i in touched:
        rows[i].adjust(result[i])
    return result
