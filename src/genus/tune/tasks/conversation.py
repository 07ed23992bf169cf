"""What an assistant says in a conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from genus.modalities.chat import Chat, ready
from genus.objectives.answers import Answers
from genus.ops.cross_entropy import IGNORE
from genus.parts.head import Head
from genus.prepare.records import Record, Records
from genus.tune import writing
from genus.tune.conversations import asked, form, read, said
from genus.tune.examples import lengths_of
from genus.tune.packing import Packed
from genus.tune.reading import reads
from genus.tune.task import Example, Wishes, missing
from genus.tune.writing import WritingTask

if TYPE_CHECKING:
    from genus.generate.beam import Beam
    from genus.modalities.text import Tokenizer
    from genus.train.loader import Loader
    from genus.tune.base import Base

ROW = 256  # positions of a packed row, at least where the model has them


@dataclass(frozen=True)
class Conversation(WritingTask):
    """To say what the assistant says; the words of the others, and what the template writes, are only read.

    Attributes:
        read: the columns that hold the conversation, the assistant's words last (`genus.tune.conversations`).
        longest: bytes of the longest last answer.
    """

    name: ClassVar[str] = "conversation"
    alone: ClassVar[bool] = False

    read: tuple[str, ...] = ("messages",)
    longest: int = 512

    @property
    def columns(self) -> tuple[str, ...]:
        return self.read

    @classmethod
    def infer(cls, records: Records, wishes: Wishes) -> Self | None:
        if wishes.task is None and (wishes.text or wishes.label):
            return None
        if wishes.text and wishes.text not in records.columns:
            raise missing(records, f"the column {wishes.text!r} for the conversations", "--text", wishes.text)
        found = tuple(n for n in (wishes.text, wishes.label) if n) if wishes.text else form(records.columns)
        if found is None and wishes.task == cls.name:
            raise missing(records, "the column messages or conversations, or prompt and response", "--text (and --label)")
        return None if found is None else cls(found, max((len(said(row, found).encode()) for row in records.rows), default=0))

    def because(self, records: Records) -> str:
        names = " and ".join(repr(name) for name in self.read)
        return f"{names} of {len(records):,} rows: {self.name}; the loss is on the assistant's words"

    def problem(self, row: Record, labelled: bool = True) -> str | None:
        try:
            read(row, self.read, labelled)
        except ValueError as error:
            return str(error)
        return None

    def texts(self, row: Record) -> tuple[str, ...]:
        try:
            messages = asked(read(row, self.read, answered=False)).messages
        except ValueError:
            return ("",)
        return ("\n".join(f"{m['role']}: {m['content'] or json.dumps(m.get('tool_calls'))}" for m in messages),)

    def target(self, row: Record) -> str:
        """The assistant's last words."""
        return said(row, self.read)

    def settle(self, base: Base) -> Base:
        if reads(base.recipe.model) != "past" or not isinstance(base.recipe.model.head, Head):
            raise ValueError(
                f"{base.name} does not predict the next token, so it cannot converse; choose a decoder, a recurrent or a "
                "fast-weights model (genus recipes), or for an encoder-decoder the columns source and target"
            )
        tokenizer = ready(base.tokenizer)
        return base if tokenizer is base.tokenizer else base.extended(tokenizer)

    def examples(self, rows: Sequence[Record], tokenizer: Tokenizer, limit: int) -> list[Example]:
        """One example for each conversation; one for each turn where the template rewrites what was said before.

        A conversation that is too long loses its end. One that the template refuses gives none.
        """
        chat = Chat(tokenizer)
        made = []
        for i, row in enumerate(rows):
            try:
                lessons = chat.lessons(*read(row, self.read))
            except ValueError:
                continue
            for lesson in lessons:
                label = [token if spoken else IGNORE for token, spoken in zip(lesson.ids, lesson.said)]
                made.append(Example(lesson.ids[:limit], [], label[:limit], row=i, cut=len(lesson.ids) > limit))
        return made

    def refusal(self, row: Record, tokenizer: Tokenizer) -> str | None:
        try:
            Chat(tokenizer).lessons(*read(row, self.read))
        except ValueError as error:
            return str(error)
        return None

    @property
    def objective(self) -> Answers:
        return Answers()

    def loader(self, examples: Sequence[Example], batch: int, limit: int, seed: int) -> Loader:
        """Rows that hold several conversations; one that was cut before the assistant spoke is left out."""
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
        """The predictions with the reply to each conversation, in the place of the assistant's last words."""
        chat = Chat(tokenizer)
        prompts = [chat.prompt(*asked(read(row, self.read, answered=False))) for row in rows]
        return writing.written(model, tokenizer, prompts, predictions, self.longest, ends=chat.ends, dtype=dtype, beam=beam)


def packed(examples: Sequence[Example], batch: int, limit: int, seed: int) -> Loader:
    """The examples that have a target, in rows that hold several of them."""
    taught = [e for e in examples if any(i != IGNORE for i in e.label[1:])]
    if not taught:
        raise ValueError(f"no row has a target within the first {limit} tokens; raise --context, or shorten the texts")
    return Packed(taught, batch, max(min(ROW, limit), *(int(n) for n in lengths_of(taught))), seed)
