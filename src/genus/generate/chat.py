"""Talk with a model that was tuned on conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from genus.generate.scheduler import Scheduler, Ticket
from genus.generate.sequence import Request
from genus.generate.texts import Generation, Generator, row_seed
from genus.modalities.chat import Chat
from genus.modalities.chat_template import Message

CHUNK = 8192  # tokens of questions that are read at once, about
REMEMBERED = 256e6  # bytes of what was read, kept for the next turn


class Talker:
    """A model that answers. It remembers what it has read, so the next turn of a conversation costs no more than its own words.

    Args:
        generator: the model and its rules.

    Raises:
        ValueError: the model has no chat template.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.chat = Chat(generator.tokenizer)
        self._engine = generator.prepared(self.chat.ends)
        self._scheduler = Scheduler(
            self._engine,
            slots=generator.batch,
            chunk=CHUNK,
            waiting=2**31,
            prefixes=REMEMBERED,
            decoder=generator.decoder(),
        )

    def replies(
        self,
        conversations: Sequence[Sequence[Message]],
        tools: Sequence[Any] | None = None,
        number: int = 1,
        first: int = 0,
    ) -> Iterator[tuple[int, str, Generation | None]]:
        """Answer every conversation `number` times.

        Args:
            first: number of the first sample; another one gives another answer where tokens are drawn.

        Yields:
            place (conversation index * number + sample), text that has become certain, and with the last piece the whole.
        """
        g = self.generator
        texts = [self.chat.text(messages, tools, prompt=True) for messages in conversations]
        requests = [
            Request(ids, g.max_tokens, g.sampling, row_seed(g.seed, text, first + sample), g.stop, constraint=g.constraint)
            for messages, text in zip(conversations, texts, strict=True)
            for ids in [tuple(self.chat.prompt(messages, tools))]
            for sample in range(number)
        ]
        self._engine.check(requests)
        places: dict[Ticket, int] = {}
        try:
            for place, request in enumerate(requests):
                places[self._scheduler.submit(request)] = place
            while places:
                for event in self._scheduler.step():
                    if event.ticket not in places:  # of answers that nobody waits for any longer
                        continue
                    place, whole = places[event.ticket], None
                    if event.finish is not None:
                        del places[event.ticket]
                        whole = g.whole(texts[place // number], event.ticket.sequence, place % number)
                    yield place, event.piece, whole
        finally:
            for ticket in places:
                self._scheduler.cancel(ticket)

    def fits(self, messages: Sequence[Message]) -> bool:
        """Whether the model has positions for the conversation."""
        return self._engine.limit is None or len(self.chat.prompt(messages)) <= self._engine.limit


@dataclass
class Talk:
    """A conversation as it goes on.

    Attributes:
        system: what stands before everything. messages: said so far. forgotten: messages that were left out since the model
            has no positions for them. finish: why the last answer ended; None when it was not read to its end.
    """

    talker: Talker
    system: str | None = None
    messages: list[Message] = field(default_factory=list)
    forgotten: int = 0
    finish: str | None = None
    _tries: int = 0

    def say(self, text: str) -> Iterator[str]:
        """Say something; the pieces of the answer come as they are made. One that is not read to its end is kept as far."""
        self.messages.append({"role": "user", "content": text})
        while len(self.messages) > 1 and not self.talker.fits(self._all):
            del self.messages[0]
            self.forgotten += 1
            while len(self.messages) > 1 and self.messages[0]["role"] != "user":
                del self.messages[0]
                self.forgotten += 1
        self._tries = 0
        yield from self._answer()

    def again(self) -> Iterator[str]:
        """Another answer to what was said last, in place of the one given.

        Raises:
            ValueError: nothing was said.
        """
        if not self.messages:
            raise ValueError("nothing was said that could be answered again")
        self.messages.pop()
        self._tries += 1
        yield from self._answer()

    def forget(self) -> None:
        """Begin afresh."""
        self.messages.clear()
        self.forgotten = 0

    def _answer(self) -> Iterator[str]:
        pieces: list[str] = []
        self.finish = None
        try:
            for _, piece, whole in self.talker.replies([self._all], first=self._tries):
                pieces.append(piece)
                if whole is not None:
                    self.finish = whole.finish
                yield piece
        finally:
            self.messages.append({"role": "assistant", "content": "".join(pieces)})

    @property
    def _all(self) -> list[Message]:
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.messages]
