"""/v1/completions: continue texts; an encoder-decoder rewrites them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from genus.serve import answers, logprobs, writing
from genus.serve.asked import CompletionRequest
from genus.serve.echo import read
from genus.serve.errors import invalid
from genus.serve.reply import Reply
from genus.serve.served import Served
from genus.serve.service import Service, Writer
from genus.serve.stream import unless_gone
from genus.serve.writing import Prompt, Text

if TYPE_CHECKING:
    from genus.generate.sampling import Choice
    from genus.generate.scheduler import Event

USUAL_TOKENS = 16


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/completions", responses=answers.streamed(answers.Completion), summary="Continue texts")
    async def completions(asked: CompletionRequest, http: Request) -> Response:
        return await Completing.to(service, asked, http)

    return routes


class Completing(Reply):
    """One request. Raises as `Reply`."""

    mark, abilities = "cmpl", ("complete", "rewrite")

    def __init__(self, service: Service, served: Served, asked: CompletionRequest) -> None:
        super().__init__(service, served, asked)
        limits = service.settings.limits
        self.number = asked.n or 1
        self.tries = max(self.number, asked.best_of or 1)
        self.prompts = prompts(asked.prompt, served)
        writing.check_count(len(self.prompts) * self.tries, limits, "n" if self.tries > 1 else "prompt")
        for prompt in self.prompts:
            writing.check_length(prompt, served, limits, "prompt")
        writing.check_bias(asked, served)
        self.tokens = writing.most_tokens(asked.max_tokens, USUAL_TOKENS, limits, "max_tokens")
        self.spelling = logprobs.Spelling(served.tokenizer) if asked.logprobs is not None else None
        self.written = [0] * len(self.prompts) * self.tries  # characters sent of each text

    async def answer(self, stack: AsyncExitStack, http: Request) -> Response:
        if self.asked.echo:
            return await unless_gone(http, self.echo(stack, http), JSONResponse)
        return await super().answer(stack, http)

    async def begin(self, stack: AsyncExitStack, http: Request) -> Writer:
        best = 0 if self.tries > self.number else None
        usual = 0.0 if "rewrite" in self.served.entry.abilities else 1.0
        rules = writing.sampling(self.asked, usual, best if self.asked.logprobs is None else self.asked.logprobs)
        form = await writing.constraint(self.asked.response_format, self.served)
        requests = writing.requests(self.asked, self.prompts, self.tries, self.tokens, rules, form)
        return await self.service.write(stack, http, self.asked, self.served, requests)

    async def whole(self, writer: Writer) -> dict[str, Any]:
        texts = await writer.whole()
        chosen: list[Text] = []
        for start in range(0, len(texts), self.tries):
            own = texts[start : start + self.tries]
            if self.tries > self.number:
                own = sorted(own, key=lambda text: -text.mean_log_p)[: self.number]
            chosen += own
        choices = [
            self._choice(i, text.text, text.finish, text.told(self.served.ends) if self.spelling else [])
            for i, text in enumerate(chosen)
        ]
        return self.body(choices) | self.usage(writer.tokens)

    def chunks(self, writer: Writer, number: int, piece: Event) -> Iterator[dict[str, Any]]:
        if piece.piece or piece.finish:
            told = writer.texts[number].told(self.served.ends)
            yield self.body([self._choice(number, piece.piece, piece.finish, told, self.written[number])])
            self.written[number] += len(piece.piece)

    async def echo(self, stack: AsyncExitStack, http: Request) -> dict[str, Any]:
        """The prompts themselves, with what follows them.

        Raises:
            Refused: as a stream, or of an encoder-decoder, whose text does not follow its source.
        """
        if self.asked.stream or "rewrite" in self.served.entry.abilities:
            what = "as a stream" if self.asked.stream else "by an encoder-decoder"
            raise invalid(f"a prompt is not given back {what}", "echo")
        given: list[list[Choice]] = [[] for _ in self.prompts]
        if self.asked.logprobs is not None:
            given = [await read(self.served, prompt.ids, self.asked.logprobs) for prompt in self.prompts]
        written, tokens = [Text("", finish="length") for _ in range(len(self.prompts) * self.tries)], 0
        if self.tokens:
            writer = await self.begin(stack, http)
            written, tokens = (await writer.whole()), writer.tokens
        choices = []
        for i, text in enumerate(written):
            prompt = i // self.tries
            told = [*given[prompt], *text.told(self.served.ends)]
            choices.append(self._choice(i, self.prompts[prompt].text + text.text, text.finish, told))
        return self.body(choices) | self.usage(tokens)

    def _choice(self, index: int, text: str, finish: str | None, told: Sequence[Choice], start: int = 0) -> dict[str, Any]:
        found = None
        if self.spelling is not None:
            found = logprobs.of_completion(self.spelling, told, start, bool(self.asked.logprobs))
        return {"index": index, "text": text, "logprobs": found, "finish_reason": writing.FINISH[finish] if finish else None}

    def body(self, choices: list[dict[str, Any]], streamed: bool = False) -> dict[str, Any]:
        kind = "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.asked.model, "choices": choices}


def prompts(given: str | list[str] | list[int] | list[list[int]], served: Served) -> list[Prompt]:
    """The prompts of a request, as text or as token ids.

    Raises:
        Refused: an id that the vocabulary does not have, or an empty list.
    """
    from genus.generate.texts import prompt_ids

    tokenizer = served.tokenizer
    several = isinstance(given, list) and not (given and isinstance(given[0], int))
    found = []
    for place, each in enumerate(given if several else [given]):
        param = f"prompt.{place}" if several else "prompt"
        if isinstance(each, str):
            ids, text = prompt_ids(tokenizer, each), each
        else:
            ids = tuple(each)  # type: ignore[arg-type]
            if not ids or max(ids) >= tokenizer.vocab_size:
                raise invalid(f"token ids must be below {tokenizer.vocab_size:,}, and there must be one", param)
            text = tokenizer.decode(ids)
        if "rewrite" in served.entry.abilities:
            source = (*tokenizer.encode(each), tokenizer.eos_id) if isinstance(each, str) else ids
            found.append(Prompt((tokenizer.bos_id,), text, source))
        else:
            found.append(Prompt(ids, text))
    return found
