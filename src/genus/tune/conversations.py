"""Conversations in the forms in which people keep them, as one: a list of messages, and the tools that may be called.

| columns | form |
|---|---|
| `messages` | OpenAI: `[{"role": "user", "content": "..."}]`, with `tool_calls`, and `tools` beside it |
| `conversations` | ShareGPT: `[{"from": "human", "value": "..."}]`, with `system` and `tools` beside it |
| `instruction`, `output` | Alpaca, with `input`, `system` and `history` beside them |
| `prompt`, `response` (or `completion`, `answer`, `chosen`) | a question and its answer; either may be a list of messages |

A list in a table's cell is written as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from genus.modalities.chat_template import Message

ROLES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "function": "tool",
    "ipython": "tool",
}
"""Other words for the four roles."""

KNOWN = ("system", "developer", "user", "assistant", "tool")
LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog")
ANSWERS = ("response", "completion", "output", "answer", "chosen")


class Dialogue(NamedTuple):
    """Messages, each with a role and its content, and the tools that the assistant may call."""

    messages: list[Message]
    tools: list[Any] | None = None


def form(columns: Iterable[str]) -> tuple[str, ...] | None:
    """The columns that hold conversations, the one with the assistant's words last; None when there are none."""
    there = set(columns)
    for name in LISTS:
        if name in there:
            return (name,)
    before: tuple[str, ...]
    answers: tuple[str, ...]
    if "instruction" in there:
        before, answers = ("instruction", *(["input"] if "input" in there else [])), ("output", "response")
    else:
        before, answers = ("prompt",), ANSWERS
    answer = next((name for name in answers if name in there), None)
    return (*before, answer) if answer and before[0] in there else None


def read(record: Mapping[str, Any], columns: tuple[str, ...], answered: bool = True) -> Dialogue:
    """The conversation of a row.

    Args:
        columns: what `form` found. answered: whether the assistant must have said something.

    Raises:
        ValueError: there is none, or it is not one; the message says where.
    """
    tools = _json(record.get("tools"), "tools") or None
    if tools is not None and not isinstance(tools, list):
        raise ValueError("tools is not a list")
    begin = _system(record.get("system"))
    if len(columns) == 1:
        turns = _json(record.get(columns[0]), columns[0])
        if not isinstance(turns, list) or not turns:
            raise ValueError(f"{columns[0]} is not a list of messages" if turns else f"empty {columns[0]}")
        messages = begin + _messages(turns, columns[0])
    else:
        messages = begin + _question(record, columns[:-1])
        if answered or record.get(columns[-1]):
            messages += _answer(record.get(columns[-1]), columns[-1])
    if answered:
        _check(messages)
    return Dialogue(messages, tools)


def asked(dialogue: Dialogue) -> Dialogue:
    """The conversation without the assistant's last words: what a model is asked."""
    messages = dialogue.messages
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=len(messages))
    return Dialogue(messages[:last], dialogue.tools)


def said(record: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    """The assistant's last words in a row; nothing where there are none, or the row is no conversation."""
    try:
        messages = read(record, columns, answered=False).messages if len(columns) == 1 else _answer(record.get(columns[-1]), "")
    except ValueError:
        return ""
    return next((m["content"] or "" for m in reversed(messages) if m["role"] == "assistant"), "")


def _question(record: Mapping[str, Any], columns: tuple[str, ...]) -> list[Message]:
    before = []
    for pair in _json(record.get("history"), "history") or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("history is not a list of pairs")
        before += [{"role": "user", "content": str(pair[0])}, {"role": "assistant", "content": str(pair[1])}]
    value = record.get(columns[0])
    if isinstance(value, list):
        return before + _messages(value, columns[0])
    parts = [str(record.get(name) or "").strip() for name in columns]
    if not parts[0]:
        raise ValueError(f"empty {columns[0]}")
    return [*before, {"role": "user", "content": "\n\n".join(filter(None, parts))}]


def _answer(value: Any, name: str) -> list[Message]:
    if isinstance(value, list):
        return _messages(value, name)
    if value is None or not str(value).strip():
        raise ValueError(f"empty {name}")
    return [{"role": "assistant", "content": str(value)}]


def _system(value: Any) -> list[Message]:
    return [{"role": "system", "content": value}] if isinstance(value, str) and value.strip() else []


def _messages(turns: list[Any], name: str) -> list[Message]:
    messages = []
    for number, turn in enumerate(turns, start=1):
        try:
            messages.append(_message(turn))
        except ValueError as error:
            raise ValueError(f"{name}, message {number}: {error}") from error
    return messages


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise ValueError("not an object with a role and content")
    word = turn.get("role", turn.get("from"))
    if not isinstance(word, str):
        raise ValueError("it has no role")
    role = ROLES.get(word.lower(), word.lower())
    if role not in KNOWN:
        raise ValueError(f"the role {word!r} is none of {', '.join(KNOWN)}")
    content = _text(turn["content"] if "content" in turn else turn.get("value"))
    if word == "function_call":  # ShareGPT's way to write a call
        return {"role": role, "content": None, "tool_calls": [_call(_json(content, "the call"))]}
    message: Message = {"role": role, "content": content}
    if turn.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in _json(turn["tool_calls"], "tool_calls")]
    elif content is None or (role == "assistant" and not content.strip()):
        raise ValueError("it has no content")
    return message | {key: turn[key] for key in ("name", "tool_call_id", "reasoning_content") if turn.get(key) is not None}


def _text(content: Any) -> str | None:
    """OpenAI's content may be a list of parts."""
    if isinstance(content, list):
        if any(not isinstance(part, Mapping) or part.get("type", "text") != "text" for part in content):
            raise ValueError("it has a part that is not text")
        return "".join(str(part.get("text", "")) for part in content)
    if content is None or isinstance(content, str):
        return content
    raise ValueError("its content is not text")


def _call(call: Any) -> dict[str, Any]:
    """A call as templates want it: with arguments as an object, not as a string of JSON."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not function.get("name"):
        raise ValueError("a tool call without a function's name")
    arguments = _json(function.get("arguments"), "a call's arguments") or {}
    known = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return known | ({"id": call["id"]} if call.get("id") else {})


def _json(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON ({error.msg})") from error


def _check(messages: list[Message]) -> None:
    if not any(m["role"] == "assistant" for m in messages):
        raise ValueError("the assistant says nothing")
    if messages[0]["role"] == "assistant" and len(messages) == 1:
        raise ValueError("the assistant answers nobody")
