"""Talk with a model that was tuned on conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from genus.generate.engine import Engine, half_precision
from genus.generate.sequence import Request
from genus.generate.texts import Generation, Generator, end_ids, row_seed
from genus.modalities.chat import Chat
from genus.modalities.chat_template import Message


class Talker:
    """A model that answers.

    Args:
        generator: the model and its rules.

    Raises:
        ValueError: the model has no chat template.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.chat = Chat(generator.tokenizer)
        model = generator.loaded.model.eval()
        ready = half_precision(model) if generator.dtype == torch.bfloat16 else model
        ends = self.chat.ends | set(end_ids(generator.loaded.path))
        self._engine = Engine(ready, generator.tokenizer, ends, generator.dtype)

    def replies(
        self, conversations: Sequence[Sequence[Message]], tools: Sequence[Any] | None = None, number: int = 1
    ) -> Iterator[tuple[int, str, Generation | None]]:
        """Answer every conversation `number` times.

        Yields:
            place (conversation index * number + sample), text that has become certain, and with the last piece the whole.
        """
        g = self.generator
        texts = [self.chat.text(messages, tools, prompt=True) for messages in conversations]
        requests = [
            Request(tuple(ids), g.max_tokens, g.sampling, row_seed(g.seed, text, sample), g.stop)
            for messages, text in zip(conversations, texts, strict=True)
            for ids in [self.chat.prompt(messages, tools)]
            for sample in range(number)
        ]
        for place, piece, row in self._engine.run(requests, g.batch):
            whole = None
            if row.finish is not None:
                whole = Generation(texts[place // number], row.text, tuple(row.new_ids), row.finish, place % number)
            yield place, piece, whole

    def fits(self, messages: Sequence[Message]) -> bool:
        """Whether the model has positions for the conversation."""
        return self._engine.limit is None or len(self.chat.prompt(messages)) <= self._engine.limit


@dataclass
class Talk:
    """A conversation as it goes on.

    Attributes:
        system: what stands before everything. messages: said so far. forgotten: messages that were left out since the model
            has no positions for them.
    """

    talker: Talker
    system: str | None = None
    messages: list[Message] = field(default_factory=list)
    forgotten: int = 0

    def say(self, text: str) -> Iterator[str]:
        """Say something; the pieces of the answer come as they are made. One that is not read to its end is kept as far."""
        self.messages.append({"role": "user", "content": text})
        while len(self.messages) > 1 and not self.talker.fits(self._all):
            del self.messages[0]
            self.forgotten += 1
            while len(self.messages) > 1 and self.messages[0]["role"] != "user":
                del self.messages[0]
                self.forgotten += 1
        pieces: list[str] = []
        try:
            for _, piece, _ in self.talker.replies([self._all]):
                pieces.append(piece)
                yield piece
        finally:
            self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def forget(self) -> None:
        """Begin afresh."""
        self.messages.clear()
        self.forgotten = 0

    @property
    def _all(self) -> list[Message]:
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.messages]
