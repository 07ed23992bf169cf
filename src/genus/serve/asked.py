"""What clients may ask, field by field: OpenAI's names, and a few of our own beside them.

A field that is not here is refused by its name, so that nothing is ignored in silence. Fields that a client may send and that
change nothing here are said to be so.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from genus.spec import nearest

STOPS, STOP_LENGTH = 16, 256  # stop strings of a request, characters of one
TOP = 20  # most probable tokens that are told at each place
BIASES = 1024

Bias = Annotated[float, Field(ge=-100, le=100)]
Stop = Annotated[str, Field(min_length=1, max_length=STOP_LENGTH)]
Token = Annotated[int, Field(ge=0)]
Texts = str | list[str] | list[Token] | list[list[Token]]


class Asked(BaseModel):
    """A JSON object whose fields are known, each of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        strange = [key for key in value if key not in cls.model_fields] if isinstance(value, dict) else []
        if strange:
            hint = nearest(strange[0], cls.model_fields)
            raise PydanticCustomError("unknown", "this server does not know it{hint}", {"hint": hint, "field": strange[0]})
        return value


class Open(BaseModel):
    """A JSON object that may have further fields."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Question(Asked):
    """A whole request."""

    @model_validator(mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        broken = _surrogate(value)
        if broken is not None:
            raise PydanticCustomError("unicode", "it holds half of a character (a lone surrogate)", {"field": ".".join(broken)})
        return value


class StreamOptions(Asked):
    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(None, description="Changes nothing here.")


class Writing(Question):
    """What all requests have in common that let a model write."""

    model: str
    temperature: float | None = Field(None, ge=0, le=10, description="0 = always the most probable token; default 1.")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, description="Only the k most probable tokens; 0 = all. Not OpenAI's.")
    min_p: float | None = Field(None, ge=0, le=1, description="Only tokens at least so probable beside the best. Not OpenAI's.")
    repetition_penalty: float | None = Field(None, gt=0, le=10, description="Not OpenAI's.")
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, Bias] | None = Field(None, max_length=BIASES, description="Token id (as a string) to -100 ... 100.")
    n: int | None = Field(None, ge=1, le=128)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1, description="Equal seeds and prompts give equal texts.")
    stop: Stop | list[Stop] | None = Field(None)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=512, description="Who asks; those who ask take turns.")
    metadata: dict[str, str] | None = Field(None, description="Changes nothing here.")
    store: bool | None = Field(None, description="Changes nothing here: nothing is stored.")
    service_tier: str | None = Field(None, description="Changes nothing here.")
    prompt_cache_key: str | None = Field(None, description="Changes nothing here.")
    safety_identifier: str | None = Field(None, max_length=512, description="Used as `user`.")

    @field_validator("stop")
    @classmethod
    def _few(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) > STOPS:
            raise PydanticCustomError("too_long", "at most {most} stop strings", {"most": STOPS})
        return value

    @field_validator("logit_bias")
    @classmethod
    def _ids(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        for key in value or {}:
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise PydanticCustomError("token", 'the keys must be token ids, such as "50256", not "{key}"', {"key": key})
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def owner(self) -> str:
        return self.user or self.safety_identifier or ""

    @property
    def bias(self) -> tuple[tuple[int, float], ...]:
        return tuple((int(key), value) for key, value in (self.logit_bias or {}).items())


class Schema(Asked):
    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        return value


class ResponseFormat(Asked):
    """`{"type": "json_object"}`, or `{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}`."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: Schema | None = None
    pattern: str | None = Field(None, max_length=4096, description='Of the type "regex". Not OpenAI\'s.')

    @model_validator(mode="after")
    def _whole(self) -> ResponseFormat:
        if self.type == "json_schema" and (self.json_schema is None or self.json_schema.schema_ is None):
            raise PydanticCustomError("missing", "give the schema", {"field": "json_schema"})
        if self.type == "regex" and self.pattern is None:
            raise PydanticCustomError("missing", "give the regular expression", {"field": "pattern"})
        return self


class CompletionRequest(Writing):
    """Continue a text; an encoder-decoder rewrites it."""

    prompt: Texts = Field(description="A text, several, or token ids.")
    max_tokens: int | None = Field(None, ge=0, description="Default 16, as OpenAI's. 0 only with `echo`.")
    echo: bool | None = Field(None, description="Give the prompt too, with its log-probabilities where these are asked for.")
    logprobs: int | None = Field(None, ge=0, le=TOP)
    best_of: int | None = Field(None, ge=1, le=128, description="Write so many and give the `n` most probable per token.")
    response_format: ResponseFormat | None = None
    suffix: None = Field(None, description="Not offered: models here write on, they do not fill in.")

    @model_validator(mode="after")
    def _agree(self) -> CompletionRequest:
        if not self.prompt and not isinstance(self.prompt, str):
            raise PydanticCustomError("empty", "it holds no text", {"field": "prompt"})
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("nothing", "0 leaves nothing to do, but with echo", {"field": "max_tokens"})
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise PydanticCustomError("too_small", "it must be at least n", {"field": "best_of"})
        if self.best_of is not None and self.best_of > (self.n or 1) and (self.stream or self.echo):
            raise PydanticCustomError("conflict", "the best is known in the end; leave out stream and echo", {"field": "best_of"})
        return self


class TextPart(Asked):
    type: Literal["text"]
    text: str


class FunctionCall(Asked):
    name: str
    arguments: str = Field(description="JSON.")


class ToolCall(Open):
    id: str
    type: Literal["function"]
    function: FunctionCall


class ChatMessage(Open):
    """What somebody said. Fields beside these are not read: clients send back what they were given."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _says(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise PydanticCustomError("missing", "the message says nothing", {"field": "content"})
        return self

    def render(self) -> dict[str, Any]:
        """The message as chat templates know it."""
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": content or ""}
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": _read(call.function)}}
                for call in self.tool_calls
            ]
        return message | {key: getattr(self, key) for key in ("name", "tool_call_id") if getattr(self, key) is not None}


class Function(Asked):
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(None, description="A call that is asked for by `tool_choice` always keeps to its parameters.")


class Tool(Asked):
    type: Literal["function"]
    function: Function


class NamedFunction(Asked):
    name: str


class NamedTool(Asked):
    type: Literal["function"]
    function: NamedFunction


class ChatRequest(Writing):
    """Go on with a conversation."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, description="As `max_completion_tokens`.")
    max_completion_tokens: int | None = Field(None, ge=1, description="Default: as many as the model and the server allow.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=TOP)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = Field(None, description="False: only the first call is given.")

    @model_validator(mode="after")
    def _agree(self) -> ChatRequest:
        names = [tool.function.name for tool in self.tools or []]
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("conflict", "it needs logprobs: true", {"field": "top_logprobs"})
        if self.tool_choice not in (None, "none", "auto") and not names:
            raise PydanticCustomError("conflict", "there are no tools to choose from", {"field": "tool_choice"})
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise PydanticCustomError(
                "unknown_tool",
                "there is no tool '{name}'{hint}",
                {
                    "name": self.tool_choice.function.name,
                    "hint": nearest(self.tool_choice.function.name, names),
                    "field": "tool_choice",
                },
            )
        return self

    @property
    def limit(self) -> tuple[str, int | None]:
        """Most tokens of an answer, and the field that says so."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return "max_tokens", self.max_tokens


class EmbeddingRequest(Question):
    """Vectors of texts."""

    model: str
    input: Texts = Field(description="A text, several, or token ids.")
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1, description="The model's own number; vectors are not cut short.")
    pool: Literal["mean", "first", "last", "max"] | None = Field(
        None, description="One vector of a text's; default: what a sentence encoder states, else the mean. Not OpenAI's."
    )
    user: str | None = Field(None, max_length=512)


class ClassifyRequest(Question):
    """Labels of texts, by a model that was tuned for a task."""

    model: str
    input: str | dict[str, Any] | list[str] | list[dict[str, Any]] = Field(
        description="A text, or an object with the columns that the model was tuned on; or a list of either."
    )
    user: str | None = Field(None, max_length=512)

    @property
    def rows(self) -> list[str | dict[str, Any]]:
        return list(self.input) if isinstance(self.input, list) else [self.input]


def _surrogate(value: Any) -> list[str] | None:
    """The way to a text that UTF-8 cannot write: JSON can escape one half of a character."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return []
        return None
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found = [] if isinstance(key, str) and _surrogate(key) is not None else _surrogate(item)
        if found is not None:
            return [str(key).encode(errors="replace").decode(), *found]
    return None


def _read(function: FunctionCall) -> Any:
    """Arguments as data where they are JSON, which templates write in their own way."""
    try:
        return json.loads(function.arguments)
    except (json.JSONDecodeError, RecursionError):
        return function.arguments
