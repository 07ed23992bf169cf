"""What is wrong with a request is said by the name of its field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from genus.serve.asked import ChatRequest, ClassifyRequest, CompletionRequest, EmbeddingRequest
from genus.serve.errors import explained

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "add"}}


def param(kind: type[BaseModel], body: Any) -> tuple[str | None, str]:
    """The field that is named, and the message."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    errors = [dict(each, loc=("body", *each["loc"])) for each in caught.value.errors()]
    refused = explained(errors, body)
    assert refused.status == 400 and refused.body["error"]["type"] == "invalid_request_error"
    return refused.param, refused.message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": HELLO}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": [{"role": "user"}]}, "messages.0.content"),
        ({"model": "m", "messages": [*HELLO, {"role": "boss", "content": "x"}]}, "messages.1.role"),
        ({"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"model": "m", "messages": HELLO, "temperature": "1"}, "temperature"),
        ({"model": "m", "messages": HELLO, "temperature": 99}, "temperature"),
        ({"model": "m", "messages": HELLO, "n": 0}, "n"),
        ({"model": "m", "messages": HELLO, "stop": [""]}, "stop.0"),
        ({"model": "m", "messages": HELLO, "stop": ["a"] * 17}, "stop"),
        ({"model": "m", "messages": HELLO, "logit_bias": {"x": 1}}, "logit_bias"),
        ({"model": "m", "messages": HELLO, "logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"model": "m", "messages": HELLO, "top_logprobs": 2}, "top_logprobs"),
        ({"model": "m", "messages": HELLO, "tool_choice": "required"}, "tool_choice"),
        (
            {"model": "m", "messages": HELLO, "tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools.0.function.name",
        ),
        ({"model": "m", "messages": HELLO, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"model": "m", "messages": HELLO, "response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_chat(body: dict, field: str) -> None:
    assert param(ChatRequest, body)[0] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "m"}, "prompt"),
        ({"model": "m", "prompt": []}, "prompt"),
        ({"model": "m", "prompt": [[1, -2]]}, "prompt.0.1"),
        ({"model": "m", "prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"model": "m", "prompt": "a", "suffix": "b"}, "suffix"),
        ({"model": "m", "prompt": "a", "best_of": 1, "n": 2}, "best_of"),
        ({"model": "m", "prompt": "a", "logprobs": True}, "logprobs"),
    ],
)
def test_completions(body: dict, field: str) -> None:
    assert param(CompletionRequest, body)[0] == field


def test_unknown_fields_are_named_with_the_nearest() -> None:
    field, message = param(ChatRequest, {"model": "m", "messages": HELLO, "temprature": 1})
    assert field == "temprature" and "did you mean 'temperature'" in message
    assert param(EmbeddingRequest, {"model": "m", "input": "a", "x": 1})[0] == "x"
    assert param(ClassifyRequest, {"model": "m", "input": 3})[0] == "input"
    body = {"model": "m", "messages": HELLO, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "ad"}}}
    field, message = param(ChatRequest, body)
    assert field == "tool_choice" and "no tool 'ad'; did you mean 'add'" in message
    _, message = param(ChatRequest, {"model": "m", "messages": HELLO, "logit_bias": {"x": 1}})
    assert message.endswith('not "x"')
    assert param(CompletionRequest, []) == (
        None,
        "the body is JSON, but no object; send a JSON object with Content-Type: application/json",
    )


def test_what_clients_send_back_is_taken() -> None:
    """An assistant's message as OpenAI's client gives it, with all its empty fields."""
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    said = {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None, "tool_calls": [call]}
    asked = ChatRequest.model_validate(
        {"model": "m", "messages": [*HELLO, said, {"role": "tool", "tool_call_id": "call_1", "content": "2"}], "user": None}
    )
    rendered = [message.render() for message in asked.messages]
    assert rendered[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1} and rendered[1]["content"] == ""
    assert rendered[2] == {"role": "tool", "content": "2", "tool_call_id": "call_1"}
    parts = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "developer", "content": [{"type": "text", "text": t} for t in "ab"]}]}
    )
    assert parts.messages[0].render() == {"role": "system", "content": "ab"}
