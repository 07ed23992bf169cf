"""What the server answers, for its OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Finish = Literal["stop", "length", "tool_calls"]


class Answered(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(Answered):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(Answered):
    """What went wrong; `param` names the field."""

    error: Problem


class Model(Answered):
    """A model. `step`: updates so far of a run that is not finished; null of a finished model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    recipe: str
    abilities: list[str]
    parameters: int
    context: int | None
    loaded: bool
    step: int | None


class Models(Answered):
    object: Literal["list"]
    data: list[Model]


class Usage(Answered):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionLogprobs(Answered):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Answered):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish


class Completion(Answered):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class TokenLogprob(Answered):
    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Answered):
    content: list[ContentLogprob]
    refusal: None


class CalledFunction(Answered):
    name: str
    arguments: str


class Call(Answered):
    id: str
    type: Literal["function"]
    function: CalledFunction


class Said(Answered):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[Call] | None = None


class ChatChoice(Answered):
    index: int
    message: Said
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(Answered):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Vector(Answered):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class ReadUsage(Answered):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Answered):
    object: Literal["list"]
    data: list[Vector]
    model: str
    usage: ReadUsage


class Label(BaseModel):
    """The columns that the task adds: `prediction`, and what else it knows, such as `probability`."""

    model_config = ConfigDict(extra="allow")
    index: int


class Labels(Answered):
    object: Literal["list"]
    model: str
    task: str
    data: list[Label]


class Health(Answered):
    status: Literal["ok"]


_MEANING = {
    400: "A field is wrong; `error.param` names it.",
    401: "No key, or a wrong one.",
    403: "A foreign Host or Origin.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many wait; come again later.",
    500: "The server or the model failed.",
    503: "The server is stopping, or the model cannot answer yet.",
    504: "Nothing could be written in time.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an address."""
    return {status: {"model": Error, "description": _MEANING[status]} for status in statuses}


def whole(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The answers of an address that takes a body."""
    return {200: {"model": model}, **refusals(*_MEANING)}


def streamed(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The same, for one that also answers piece by piece."""
    events = {
        "text/event-stream": {"schema": {"type": "string", "description": "`data: {...}` per piece; at last `data: [DONE]`."}}
    }
    found = whole(model)
    found[200] = {"model": model, "content": events}
    return found
