"""Masked language modelling: guess hidden tokens from both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from genus.objectives.batch import Batch, Rows
from genus.objectives.next_sentence import Pairs, Text
from genus.objectives.objective import Objective, Reads
from genus.objectives.pieces import Ids, pieces
from genus.objectives.right import right
from genus.ops.cross_entropy import IGNORE
from genus.ops.host import sent
from genus.parts.ctx import PADDING
from genus.parts.model import Model

HIDDEN, RANDOM = 0.8, 0.9  # of the chosen tokens 80 % become [MASK], the next 10 % any token, the rest stay


@dataclass(frozen=True)
class Masked(Objective):
    """Some tokens of a text from all the others (Devlin et al. 2019, section 3.1).

    What a row holds of a document is framed as `[CLS] piece [SEP]`; pieces in one row do not see each other. Of the tokens that
    are chosen 80 % are replaced by [MASK], 10 % by a random one, and 10 % are left. The choice is made anew for every batch (Liu
    et al. 2019, "dynamic masking").

    With `sentences` the model also learns from `[CLS] half [SEP] half [SEP]` which pairs are as they were written, with its
    second read-out (`model.head.task`). That loss counts for as many targets as were chosen in the pair, so that, divided by the
    number of targets, the whole is BERT's mean of one plus mean of the other, however a batch is cut.

    Attributes:
        rate: share of the tokens that are chosen. whole_words: all tokens of a word are chosen, or none (Cui et al. 2021).
        sentences: `NextSentence` (BERT), `SentenceOrder` (ALBERT) or none.
        pad, cls, sep, mask, eos: ids; vocab: their number. `settle` sets them.
    """

    rate: float = 0.15
    whole_words: bool = False
    sentences: Pairs | None = None
    pad: int = -1
    cls: int = -1
    sep: int = -1
    mask: int = -1
    eos: int = -1
    vocab: int = 0

    symbols: ClassVar[tuple[str, ...]] = ("pad", "cls", "sep", "mask")
    reads: ClassVar[Reads] = "all"

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate={self.rate} must be a share of the tokens, between 0 and 1; BERT takes 0.15")

    @property
    def marks_words(self) -> bool:
        return self.whole_words

    def settle(self, ids: Mapping[str, int]) -> Self:
        return self.replace(**{name: ids[name] for name in (*self.symbols, "eos", "vocab")})

    def refusal(self, model: Model) -> str | None:
        if self.sentences is not None and getattr(model.head, "task", None) is None:
            return f"{type(self.sentences).__name__} needs a second read-out, which the model lacks: set objective.sentences=none"
        return super().refusal(model)

    def batch(self, rows: Rows, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """Framed and masked rows of the same length as those given; a row holds the texts that fit, the last cut short."""
        assert self.vocab, "the objective does not know its symbols yet: settle it"
        assert rows.words is not None or not self.whole_words, "the rows do not say where words begin"
        found = pieces(rows, self.eos)
        texts = self.sentences.texts(found, rng) if self.sentences else [Text(piece.row, (piece,)) for piece in found]
        framed = self._framed(texts, *rows.tokens.shape)
        chosen = self._chosen(framed, rng)
        ids, doc = framed["ids"], framed["doc"]
        draw = torch.rand(ids.shape, generator=rng)
        random = torch.randint(self.vocab, ids.shape, generator=rng)
        inputs = torch.where(chosen & (draw < HIDDEN), self.mask, ids)
        inputs = torch.where(chosen & (draw >= HIDDEN) & (draw < RANDOM), random, inputs)
        single = bool((doc == 0).all())
        return Batch(
            inputs,
            ids.masked_fill(~chosen, IGNORE),
            None if single else doc,
            framed["types"] if self.sentences else None,
            labels=framed["labels"] if self.sentences else None,
        )

    def loss(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p(token) in nats over the chosen tokens, plus that of the pairs; and the number of chosen tokens."""
        hidden = model.hidden(batch.inputs, batch.doc, types=batch.types, dtype=dtype)
        total, count = self._tokens(model, hidden, batch)
        if self.sentences is not None:
            logits, labels, counts = self._second(model, hidden, batch)
            total = total + self.sentences.loss(logits, labels, counts)
        return total, count

    def measure(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The loss, the share of chosen tokens that the model names, and of pairs whose label it does."""
        hidden = model.hidden(batch.inputs, batch.doc, types=batch.types, dtype=dtype)
        total, count = self._tokens(model, hidden, batch)
        at = batch.at_targets
        hits = {"accuracy": (right(model.head, hidden[at], batch.targets[at]), count)}
        if self.sentences is None:
            return {"loss": (total, count), **hits}
        logits, labels, counts = self._second(model, hidden, batch)
        named = (logits.argmax(-1) == labels).sum(), labels.new_tensor(len(labels))
        both = total + self.sentences.loss(logits, labels, counts)
        return {"loss": (both, count), "masked_loss": (total, count), **hits, "pair_accuracy": named}

    def flops(self, model: Any, length: int) -> float:
        """The read-out is computed for the chosen tokens alone."""
        read_out = model.head.work(model.stack.width(model.dim), model.embed.vocab)
        return float(model.flops(0, length) - (1 - self.rate) * read_out)

    def _tokens(self, model: Any, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        at = batch.at_targets
        return model.head.loss(hidden[at], batch.targets[at])  # type: ignore[no-any-return]

    def _second(self, model: Any, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of each pair with a label: logits (P, 2), the label, and the number of chosen tokens in it."""
        told = batch.here
        assert told.labels is not None
        begins = torch.zeros_like(told.inputs, dtype=torch.bool)
        begins[:, 0] = True
        if told.doc is not None:
            begins[:, 1:] = (told.doc[:, 1:] != told.doc[:, :-1]) & (told.doc[:, 1:] != PADDING)
        text = begins.flatten().cumsum(0) - 1
        chosen = torch.bincount(text[told.targets.flatten() != IGNORE], minlength=int(begins.sum()))
        labels = told.labels[begins]
        known = labels != IGNORE
        found = (*begins.nonzero()[known].unbind(1), labels[known], chosen[known])
        row, time, labels, chosen = (sent(x, hidden.device) for x in found)
        return model.head.task(hidden[row, time][:, None]), labels, chosen  # each text alone, by the vector of its first position

    def _chosen(self, framed: Mapping[str, Tensor], rng: torch.Generator | None) -> Tensor:
        """(B, T) which tokens are to be guessed."""
        words = framed["words"]
        unit = words.flatten().cumsum(0)
        draw = torch.rand(int(unit[-1]) + 1, generator=rng)
        return (draw[unit].view(words.shape) < self.rate) & framed["content"]

    def _framed(self, texts: Sequence[Text], rows: int, length: int) -> dict[str, Tensor]:
        """(B, T) ids, document numbers within the row, segment types, labels, what is content and where words begin."""
        fill = {"ids": self.pad, "doc": PADDING, "types": 0, "labels": IGNORE, "content": False, "words": True}
        made = {name: np.full((rows, length), value) for name, value in fill.items()}
        used, count = [0] * rows, [0] * rows
        for text in texts:
            row, start = text.row, used[text.row]
            room = length - start - 1 - len(text.parts)
            if room < len(text.parts):  # not even one token of each part
                continue
            stop = start + self._frame(text, room, {name: array[row, start:] for name, array in made.items()})
            made["doc"][row, start:stop] = count[row]
            made["labels"][row, start] = text.label
            used[row], count[row] = stop, count[row] + 1
        return {name: torch.from_numpy(array) for name, array in made.items()}

    def _frame(self, text: Text, room: int, into: Mapping[str, Ids]) -> int:
        """Write one text with at most `room` tokens of its own; the longer part gives way first. Returns its length."""
        lengths = [len(part.tokens) for part in text.parts]
        while sum(lengths) > room:
            longest = lengths.index(max(lengths))
            others = max([length for i, length in enumerate(lengths) if i != longest], default=0)
            lengths[longest] -= min(sum(lengths) - room, max(1, lengths[longest] - others))
        into["ids"][0] = self.cls
        at = 1
        for number, (part, length) in enumerate(zip(text.parts, lengths)):
            content = slice(at, at + length)
            into["ids"][content] = part.tokens[:length]
            into["content"][content] = True
            if self.whole_words and part.words is not None:
                into["words"][content] = part.words[:length]
            into["words"][at] = True
            into["ids"][at + length] = self.sep
            into["types"][at : at + length + 1] = number
            at += length + 1
        return at
