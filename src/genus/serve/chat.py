"""/v1/chat/completions: go on with a conversation, by the model's own chat template."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from genus.serve import answers, logprobs, writing
from genus.serve.asked import ChatRequest, NamedTool
from genus.serve.calls import Call, CallFormat, CallReader
from genus.serve.errors import invalid, named
from genus.serve.reply import Reply
from genus.serve.served import Served
from genus.serve.service import Service, Writer
from genus.serve.writing import Prompt

if TYPE_CHECKING:
    from genus.generate.constraint import Constraint
    from genus.generate.scheduler import Event


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/chat/completions", responses=answers.streamed(answers.ChatCompletion), summary="Converse")
    async def converse(asked: ChatRequest, http: Request) -> Response:
        return await Answering.to(service, asked, http)

    return routes


class Answering(Reply):
    """One request. Raises as `Reply`."""

    mark, abilities = "chatcmpl", ("chat",)

    def __init__(self, service: Service, served: Served, asked: ChatRequest) -> None:
        super().__init__(service, served, asked)
        limits = service.settings.limits
        self.tools = [] if asked.tool_choice == "none" else [tool.model_dump(exclude_none=True) for tool in asked.tools or []]
        self.form = self._form()
        self.forced = self.form is not None and asked.tool_choice not in (None, "none", "auto")
        if self.forced and asked.response_format is not None and asked.response_format.type != "text":
            raise invalid("a call is asked for, which has a form of its own; leave out response_format", "response_format")
        prompt = self._prompt()
        self.prompts = [prompt]
        writing.check_count(asked.n or 1, limits, "n")
        writing.check_length(prompt, served, limits, "messages")
        writing.check_bias(asked, served)
        param, tokens = asked.limit
        room = limits.tokens if served.entry.context is None else max(1, served.entry.context - prompt.length)
        self.tokens = writing.most_tokens(tokens, room, limits, param)
        self.spelling = logprobs.Spelling(served.tokenizer) if asked.logprobs else None
        self.readers = [CallReader(self.form) if self.form else None for _ in range(asked.n or 1)]

    async def begin(self, stack: AsyncExitStack, http: Request) -> Writer:
        rules = writing.sampling(self.asked, 1.0, (self.asked.top_logprobs or 0) if self.asked.logprobs else None)
        requests = writing.requests(self.asked, self.prompts, self.asked.n or 1, self.tokens, rules, await self._constraint())
        writer = await self.service.write(stack, http, self.asked, self.served, requests)
        if self.forced and self.form is not None:
            for reader in self.readers:
                assert reader is not None
                reader.push(self.form.opening)
        return writer

    async def whole(self, writer: Writer) -> dict[str, Any]:
        choices = []
        for number, text in enumerate(await writer.whole()):
            reader, words, calls = self.readers[number], text.text, list[Call]()
            if reader is not None:
                words = reader.push(text.text) + reader.finish()
                calls = self._few(reader.calls)
            message: dict[str, Any] = {"role": "assistant", "content": words if words or not calls else None, "refusal": None}
            if calls:
                message["tool_calls"] = [call.render() for call in calls]
            told = self._told(writer, number)
            choices.append({"index": number, "message": message, "logprobs": told, "finish_reason": _finish(text.finish, calls)})
        return self.body(choices) | self.usage(writer.tokens)

    def opening(self, writer: Writer) -> Iterator[dict[str, Any]]:
        for number in range(len(writer.texts)):
            yield self._chunk(number, {"role": "assistant", "content": "", "refusal": None})

    def chunks(self, writer: Writer, number: int, piece: Event) -> Iterator[dict[str, Any]]:
        """A call comes whole when it is complete."""
        reader, words, calls = self.readers[number], piece.piece, list[Call]()
        if reader is not None:
            words = reader.push(piece.piece)
            if piece.finish is not None:
                words += reader.finish()
                calls = self._few(reader.calls)
        if words or (self.spelling is not None and piece.piece):
            yield self._chunk(number, {"content": words}, self._told(writer, number))
        if calls:
            rendered = [{"index": place} | call.render() for place, call in enumerate(calls)]
            yield self._chunk(number, {"tool_calls": rendered})
        if piece.finish is not None:
            yield self._chunk(number, {}, self._told(writer, number), _finish(piece.finish, calls))

    def body(self, choices: list[dict[str, Any]], streamed: bool = False) -> dict[str, Any]:
        kind = "chat.completion.chunk" if streamed else "chat.completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.asked.model, "choices": choices}

    # ---- what it is made of

    def _form(self) -> CallFormat | None:
        """How calls are written; None when none are offered.

        Raises:
            Refused: the template has no place for functions.
        """
        if not self.tools:
            return None
        form = self.served.calls
        if form is None:
            name = self.served.entry.name
            raise invalid(f"the chat template of {name!r} has no place for functions, or writes calls in no JSON", "tools")
        return form

    def _prompt(self) -> Prompt:
        chat = self.served.chat
        messages = [message.render() for message in self.asked.messages]
        with named("messages"):
            text = chat.text(messages, self.tools or None, prompt=True)
            ids = chat.prompt(messages, self.tools or None)
        if self.forced and self.form is not None:
            text += self.form.prompt
            ids = [*ids, *self.served.tokenizer.encode(self.form.prompt, special=True)]
        return Prompt(tuple(ids), text)

    async def _constraint(self) -> Constraint | None:
        if not self.forced or self.form is None:
            return await writing.constraint(self.asked.response_format, self.served)
        from genus.generate.constraint import Constraint

        functions = [tool["function"] for tool in self.tools]
        if isinstance(self.asked.tool_choice, NamedTool):
            functions = [each for each in functions if each["name"] == self.asked.tool_choice.function.name]
        with named("tools"):
            found = Constraint.json(self.form.schema(functions))
        return await writing.compiled(found, self.served, "tools")

    def _few(self, calls: list[Call]) -> list[Call]:
        return calls[:1] if self.asked.parallel_tool_calls is False else calls

    def _told(self, writer: Writer, number: int) -> dict[str, Any] | None:
        if self.spelling is None:
            return None
        return logprobs.of_chat(self.spelling, writer.texts[number].told(self.served.ends))

    def _chunk(
        self, number: int, delta: dict[str, Any], told: dict[str, Any] | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": number, "delta": delta, "logprobs": told, "finish_reason": finish}
        return self.body([choice], streamed=True)


def _finish(finish: str | None, calls: list[Call]) -> str:
    return "tool_calls" if calls else writing.FINISH[finish or "length"]
