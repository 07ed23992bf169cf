"""What denoising objectives share: a source from which something was taken, and a target that gives it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from genus.objectives.batch import Batch, Rows
from genus.objectives.objective import Objective, Reads
from genus.objectives.pieces import Ids, pieces
from genus.objectives.right import right
from genus.ops.cross_entropy import IGNORE
from genus.parts.ctx import PADDING

SENTINELS = 100  # of the vocabulary, as T5 has them
Generator = torch.Generator | None


@dataclass(frozen=True)
class Denoiser(Objective):
    """A part of a text from the rest of it, for encoder-decoders; use one of its children.

    What a row holds of a document is one source and one target, each ended by EOS; the decoder starts from BOS. Several in one
    row do not see each other.

    Attributes:
        mode: special token at the head of the source that says which denoiser made it (UL2); none = nothing.
        pad, eos, marker (of the mode): ids; sentinel and step: id of sentinel 0, and how much further the next is. `settle` sets
            them.
    """

    mode: str | None = None
    pad: int = -1
    eos: int = -1
    marker: int = -1
    sentinel: int = -1
    step: int = 1

    symbols: ClassVar[tuple[str, ...]] = ("pad", *(f"sentinel_{i}" for i in range(SENTINELS)))
    reads: ClassVar[Reads] = "source"

    def settle(self, ids: Mapping[str, int]) -> Self:
        """Raises ValueError: the sentinels do not lie at equal distances, or there is no such mode."""
        sentinels = [ids[f"sentinel_{i}"] for i in range(SENTINELS)]
        first, step = sentinels[0], sentinels[1] - sentinels[0]
        if sentinels != [first + i * step for i in range(SENTINELS)]:
            raise ValueError(
                "the tokenizer's sentinels <extra_id_0> ... do not follow one another in its vocabulary; "
                "prepare the data with a tokenizer that has none of them, or all"
            )
        if self.mode is not None and self.mode not in ids:
            raise ValueError(f"{type(self).__name__} has no mode token {self.mode!r}: set objective.mode=none")
        marker = -1 if self.mode is None else ids[self.mode]
        return self.replace(pad=ids["pad"], eos=ids["eos"], marker=marker, sentinel=first, step=step)

    def corrupt(self, tokens: Ids, rng: Generator) -> tuple[Ids, Ids]:
        """Source and target of (n,) tokens, n > 0, without the end token of either."""
        raise NotImplementedError

    def lengths(self, length: int) -> tuple[float, float]:
        """Expected lengths of source and target, of a text of so many tokens."""
        raise NotImplementedError

    def example(self, tokens: Ids, rng: Generator) -> tuple[Ids, Ids]:
        """Source and target as the model reads them."""
        source, target = self.corrupt(tokens, rng)
        before = [] if self.mode is None else [self.marker]
        return np.concatenate([before, source, [self.eos]]).astype(np.int64), np.append(target, self.eos).astype(np.int64)

    def batch(self, rows: Rows, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        """Sources and targets of every piece of a row, one after the other; rows are filled up on the right."""
        assert self.eos >= 0, "the objective does not know its symbols yet: settle it"
        count = len(rows.tokens)
        made: list[list[tuple[Ids, Ids]]] = [[] for _ in range(count)]
        for piece in pieces(rows, self.eos):
            made[piece.row].append(self.example(piece.tokens, rng))
        source, source_doc = _laid([[s for s, _ in row] for row in made], self.pad)
        targets, doc = _laid([[t for _, t in row] for row in made], IGNORE)
        inputs, _ = _laid([[np.append(rows.bos, t[:-1]) for _, t in row] for row in made], self.pad)
        return Batch(inputs, targets, doc, source=source, source_doc=source_doc)

    def loss(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p(target token | source, target before it) in nats over the batch, and the number of target tokens."""
        return model.head.loss(*self._read(model, batch, dtype))  # type: ignore[no-any-return]

    def measure(
        self,
        model: Any,
        batch: Batch,
        state: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The loss, and the share of target tokens that the model names when it is told those before."""
        hidden, targets = self._read(model, batch, dtype)
        total, count = model.head.loss(hidden, targets)
        return {"loss": (total, count), "accuracy": (right(model.head, hidden, targets), count)}

    def flops(self, model: Any, length: int) -> float:
        """Per token of source and target together."""
        source, target = self.lengths(length)
        decoder = model.replace(encoder=None).flops(0, round(target))
        encoder = model.embed.flops(model.dim, length) + model.encoder.flops(model.dim, round(source))
        return float((source * encoder + target * decoder) / (source + target))

    def _read(self, model: Any, batch: Batch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The vectors at the targets, and the targets."""
        given = {"source": batch.source, "source_doc": batch.source_doc}
        hidden = model.hidden(batch.inputs, batch.doc, dtype=dtype, **given)
        at = batch.at_targets
        return hidden[at], batch.targets[at]


def _laid(rows: list[list[Ids]], fill: int) -> tuple[Tensor, Tensor]:
    """(B, longest) texts of each row one after the other, and which is which."""
    longest = max(1, *(sum(map(len, row)) for row in rows))
    ids, doc = np.full((len(rows), longest), fill), np.full((len(rows), longest), PADDING)
    for r, row in enumerate(rows):
        if row:
            line = np.concatenate(row)
            ids[r, : len(line)] = line
            doc[r, : len(line)] = np.repeat(np.arange(len(row)), [len(text) for text in row])
    return torch.from_numpy(ids), torch.from_numpy(doc)
