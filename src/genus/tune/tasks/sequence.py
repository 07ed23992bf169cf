"""A text from a text: translation, summaries, rewriting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from genus.objectives.answers import Answers
from genus.objectives.batch import Batch
from genus.objectives.objective import Objective
from genus.objectives.seq2seq import PairRows, Seq2Seq
from genus.ops.cross_entropy import IGNORE
from genus.parts.head import Head
from genus.prepare.records import Record, Records
from genus.tune import writing
from genus.tune.reading import reads
from genus.tune.task import LABEL, TEXT, Example, Wishes, column, empty, missing
from genus.tune.tasks.conversation import packed
from genus.tune.writing import WritingTask

if TYPE_CHECKING:
    from genus.generate.beam import Beam
    from genus.modalities.text import Tokenizer
    from genus.train.loader import Loader
    from genus.tune.base import Base

SOURCE = ("source", "src", "input", "document", "article", "dialogue")
TARGET = ("target", "tgt", "output", "summary", "translation", "highlights")
BETWEEN = "<|target|>"
"""What stands between source and target of a model that has no encoder: a token of its own, as GPT-1's delimiter."""


@dataclass(frozen=True)
class Rewrite(Objective):
    """Each token of the target from the source and the target before it.

    An example with a `source` is for an encoder-decoder; in one without, both are in `ids` and the target is marked.

    Attributes:
        start: the id that stands before a target of an encoder-decoder.
    """

    start: int = 0

    def batch(self, rows: Any, rng: torch.Generator | None = None, stream: bool = False) -> Batch:
        if getattr(rows[0], "source", None) is None:
            return Answers().batch(rows)
        sources, targets = ([np.asarray(ids, np.int64) for ids in side] for side in zip(*((e.source, e.ids) for e in rows)))
        return Seq2Seq().batch(PairRows(sources, targets, self.start))

    def loss(
        self, model: Any, batch: Batch, state: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Sum of -log p(target token) in nats over the batch, and the number of target tokens."""
        one = Answers() if batch.source is None else Seq2Seq()
        return one.loss(model, batch, state, dtype)


@dataclass(frozen=True)
class SequenceToSequence(WritingTask):
    """To write a target text, given a source text.

    Attributes:
        source, target_column: columns. longest: bytes of the longest target.
    """

    name: ClassVar[str] = "sequence"

    source: str = "source"
    target_column: str = "target"
    longest: int = 512

    @property
    def columns(self) -> tuple[str, ...]:
        return self.source, self.target_column

    @classmethod
    def infer(cls, records: Records, wishes: Wishes) -> Self | None:
        asked = wishes.task == cls.name
        source = column(records, wishes.text, (*SOURCE, *(TEXT if asked else ())), "the source texts", "--text")
        target = column(records, wishes.label, (*TARGET, *(LABEL if asked else ())), "the target texts", "--label")
        if source is None or target is None or source == target:
            if asked:
                lacking, flag = ("source", "--text") if source is None else ("target", "--label")
                raise missing(records, f"the column that looks like {lacking} texts", flag)
            return None
        usual = source.strip().casefold() in SOURCE and target.strip().casefold() in TARGET
        if not asked and not usual:
            return None
        return cls(source, target, max((len(str(row.get(target) or "").encode()) for row in records.rows), default=0))

    def because(self, records: Records) -> str:
        return f"{self.target_column!r} from {self.source!r} in {len(records):,} rows: {self.name} (--task chooses another)"

    def problem(self, row: Record, labelled: bool = True) -> str | None:
        for name in self.columns if labelled else (self.source,):
            if empty(row.get(name)):
                return f"empty {name}" if name in row else f"no {name}"
        return None

    def texts(self, row: Record) -> tuple[str, ...]:
        return (str(row.get(self.source, "")),)

    def target(self, row: Record) -> str:
        value = row.get(self.target_column)
        return "" if value is None else str(value)

    def settle(self, base: Base) -> Base:
        kind = reads(base.recipe.model)
        if kind == "all" or not isinstance(base.recipe.model.head, Head):
            raise ValueError(f"{base.name} cannot write a text; choose an encoder-decoder or a decoder (genus recipes)")
        if kind == "source" or base.tokenizer.id(BETWEEN) is not None:
            return base
        return base.extended(base.tokenizer.extended((BETWEEN,)))

    def examples(self, rows: Sequence[Record], tokenizer: Tokenizer, limit: int) -> list[Example]:
        """One for each row. A source that is too long loses its end; a target keeps at least half of the room."""
        between = tokenizer.id(BETWEEN)
        sources = tokenizer.encode_batch([str(row.get(self.source, "")) for row in rows])
        targets = tokenizer.encode_batch([self.target(row) for row in rows])
        made = []
        for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
            if between is None:
                cut = max(len(source), len(target)) >= limit
                ids, read = [*target[: limit - 1], tokenizer.eos_id], [*source[: limit - 1], tokenizer.eos_id]
                made.append(Example(ids, [], None, read, i, cut))
                continue
            before, said, cut = _room(source, target, limit)
            prompt = [tokenizer.bos_id, *before, between]
            said = [*said, tokenizer.eos_id]
            made.append(Example([*prompt, *said], [], [IGNORE] * len(prompt) + said, row=i, cut=cut))
        return made

    @property
    def objective(self) -> Rewrite:
        return Rewrite()

    def loader(self, examples: Sequence[Example], batch: int, limit: int, seed: int) -> Loader:
        if examples[0].source is not None:
            return super().loader(examples, batch, limit, seed)
        return packed(examples, batch, limit, seed)

    def write(
        self,
        model: Any,
        rows: Sequence[Record],
        predictions: Sequence[Any],
        tokenizer: Tokenizer,
        dtype: torch.dtype,
        beam: Beam | None = None,
    ) -> list[Any]:
        """The predictions with the text that the model writes for each source."""
        limit = model.spec.context or writing.CONTEXT
        encoder = tokenizer.id(BETWEEN) is None
        room = limit if encoder else limit - limit // 4  # for what is to be written
        asked = self.examples([{**row, self.target_column: ""} for row in rows], tokenizer, room)
        if encoder:
            starts, sources = [[tokenizer.bos_id]] * len(asked), [e.source or [] for e in asked]
            return writing.written(model, tokenizer, starts, predictions, self.longest, sources=sources, dtype=dtype, beam=beam)
        return writing.written(model, tokenizer, [e.ids[:-1] for e in asked], predictions, self.longest, dtype=dtype, beam=beam)


def _room(source: list[int], target: list[int], limit: int) -> tuple[list[int], list[int], bool]:
    """Source and target, cut so that both fit into `limit` with the three tokens around them; and whether they were."""
    room = limit - 3
    kept = target[: max(room // 2, room - len(source))]
    before = source[: room - len(kept)]
    return before, kept, len(kept) < len(target) or len(before) < len(source)
