"""What a loader hands to an objective, and what an objective hands to a model."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from genus.ops.cross_entropy import IGNORE
from genus.ops.host import known, places, remembering, sent
from genus.parts.ctx import PADDING


@dataclass(frozen=True)
class Rows:
    """Consecutive tokens of the prepared stream, row by row.

    Attributes:
        tokens: (B, T) stored tokens. doc: (B, T) number of the document each belongs to, -1 where a row has run out.
        previous: (B,) the stored token before each row. begins: (B,) whether a row's first token begins its document.
        bos: the id that stands before the first token of a document.
        words: (B, T) whether a word begins with the token; None where the objective does not ask.
    """

    tokens: Tensor
    doc: Tensor
    previous: Tensor
    begins: Tensor
    bos: int
    words: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """What one update, or a part of it, is computed from; every tensor has the rows first.

    Attributes:
        inputs: (B, T) token ids. targets: (B, T) or (B,) what the model should say, -100 (not a number, where they are numbers)
            = no target.
        doc: (B, T) document ids, -1 = padding; None where every row is one document. types: (B, T) segment types.
        source, source_doc: (B, S) the encoder's text and its documents. labels: of a second read-out, -100 = none: (B,), or
            (B, T) at the first position of each text where a row holds several.
    """

    inputs: Tensor
    targets: Tensor
    doc: Tensor | None = None
    types: Tensor | None = None
    source: Tensor | None = None
    source_doc: Tensor | None = None
    labels: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of targets."""
        given = self.targets.isfinite() if self.targets.is_floating_point() else self.targets != IGNORE
        return int(given.sum())

    @property
    def tokens(self) -> int:
        """Number of tokens that the model reads."""
        pairs = ((self.inputs, self.doc), (self.source, self.source_doc))
        return sum(ids.shape[:2].numel() if doc is None else int((doc != PADDING).sum()) for ids, doc in pairs if ids is not None)

    @property
    def given(self) -> dict[str, Tensor]:
        """The tensors that it has, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def here(self) -> Batch:
        """The same batch in the processor's memory, if it came from there; so that what it holds can be asked without waiting."""
        values = {name: here for name, value in self.given.items() if (here := known(value)) is not None}
        return replace(self, **values) if len(values) == len(self.given) else self

    @property
    def at_targets(self) -> tuple[Tensor, ...]:
        """Indices of the places that have a target."""
        return places(self.targets, lambda targets: targets != IGNORE)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device, which is not waited for."""
        return replace(self, **{name: sent(value, device) for name, value in self.given.items()})

    def split(self, rows: int) -> list[Batch]:
        """The batch in pieces of at most `rows` rows."""
        pieces = {name: _split(value, rows) for name, value in self.given.items()}
        return [Batch(**dict(zip(pieces, parts, strict=True))) for parts in zip(*pieces.values(), strict=True)]


def _split(x: Tensor, rows: int) -> list[Tensor]:
    here = known(x)
    parts = [None] * -(-len(x) // rows) if here is None or here is x else here.split(rows)
    return [remembering(part, own) for part, own in zip(x.split(rows), parts, strict=True)]
