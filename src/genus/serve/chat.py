"""/v1/chat/completions: go on with a conversation, by the model's own chat template."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from genus.serve import answers, logprobs, writing
from genus.serve.asked import ChatRequest, NamedTool
from genus.serve.calls import Call, CallFormat, CallReader
from genus.serve.errors import invalid, named
from genus.serve.served import Served
from genus.serve.service import Service, Writer
from genus.serve.stream import BEAT, COMMENT, Streamed, event, unless_gone
from genus.serve.writing import Prompt

if TYPE_CHECKING:
    from genus.generate.constraint import Constraint


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/chat/completions", responses=answers.streamed(answers.ChatCompletion), summary="Converse")
    async def converse(asked: ChatRequest, http: Request) -> Response:
        async with AsyncExitStack() as stack:
            served = await stack.enter_async_context(service.model(asked.model, "chat"))
            answering = await asyncio.to_thread(Answering, service, served, asked)  # a long talk takes a while
            writer = await answering.begin(stack, http)
            if asked.stream:
                return Streamed(answering.events(writer), stack.pop_all())
            return await unless_gone(http, answering.whole(writer), JSONResponse)

    return routes


class Answering:
    """One request.

    Raises:
        Refused: it asks for more than the model or the server can do.
    """

    def __init__(self, service: Service, served: Served, asked: ChatRequest) -> None:
        self.service, self.served, self.asked = service, served, asked
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        limits = service.settings.limits
        self.tools = [] if asked.tool_choice == "none" else [tool.model_dump(exclude_none=True) for tool in asked.tools or []]
        self.form = self._form()
        self.forced = self.form is not None and asked.tool_choice not in (None, "none", "auto")
        if self.forced and asked.response_format is not None and asked.response_format.type != "text":
            raise invalid("a call is asked for, which has a form of its own; leave out response_format", "response_format")
        self.prompt = self._prompt()
        writing.check_count(asked.n or 1, limits, "n")
        writing.check_length(self.prompt, served, limits, "messages")
        writing.check_bias(asked, served)
        param, tokens = asked.limit
        room = limits.tokens if served.entry.context is None else max(1, served.entry.context - self.prompt.length)
        self.tokens = writing.most_tokens(tokens, room, limits, param)
        self.spelling = logprobs.Spelling(served.tokenizer) if asked.logprobs else None
        self.readers = [CallReader(self.form) if self.form else None for _ in range(asked.n or 1)]

    async def begin(self, stack: AsyncExitStack, http: Request) -> Writer:
        """Have the answers written."""
        rules = writing.sampling(self.asked, 1.0, (self.asked.top_logprobs or 0) if self.asked.logprobs else None)
        requests = writing.requests(self.asked, [self.prompt], self.asked.n or 1, self.tokens, rules, await self._constraint())
        writer = await self.service.write(stack, http, self.asked, self.served, requests)
        if self.forced and self.form is not None:
            for reader in self.readers:
                assert reader is not None
                reader.push(self.form.opening)
        return writer

    async def whole(self, writer: Writer) -> dict[str, Any]:
        """The answer, in one piece."""
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
        return self._body("chat.completion", choices) | {"usage": writing.usage([self.prompt], writer.tokens)}

    async def events(self, writer: Writer) -> AsyncIterator[bytes]:
        """The answer, piece by piece; a call comes whole when it is complete."""
        for number in range(len(writer.texts)):
            yield event(self._chunk(number, {"role": "assistant", "content": "", "refusal": None}))
        async for arrived in writer.pieces(BEAT):
            if arrived is None:
                yield COMMENT
                continue
            number, each = arrived
            reader, piece, calls = self.readers[number], each.piece, list[Call]()
            if reader is not None:
                piece = reader.push(each.piece)
                if each.finish is not None:
                    piece += reader.finish()
                    calls = self._few(reader.calls)
            if piece or (self.spelling is not None and each.piece):
                yield event(self._chunk(number, {"content": piece}, self._told(writer, number)))
            if calls:
                rendered = [{"index": place} | call.render() for place, call in enumerate(calls)]
                yield event(self._chunk(number, {"tool_calls": rendered}))
            if each.finish is not None:
                yield event(self._chunk(number, {}, self._told(writer, number), _finish(each.finish, calls)))
        if self.asked.stream_options and self.asked.stream_options.include_usage:
            yield event(self._body("chat.completion.chunk", []) | {"usage": writing.usage([self.prompt], writer.tokens)})

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
        return self._body("chat.completion.chunk", [choice])

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.asked.model, "choices": choices}


def _finish(finish: str | None, calls: list[Call]) -> str:
    return "tool_calls" if calls else writing.FINISH[finish or "length"]
