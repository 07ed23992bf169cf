"""Conversations in every form come out as the same list of messages."""

import json

import pytest

from genus.tune.conversations import asked, form, read

WANTED = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
FORMS = {
    "openai": {"messages": WANTED},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "2+2?"}]}, WANTED[1]]},
    "table": {"messages": json.dumps(WANTED)},
    "sharegpt": {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
    "alpaca": {"instruction": "2+2?", "input": "", "output": "4"},
    "prompt": {"prompt": "2+2?", "completion": "4"},
    "lists": {"prompt": WANTED[:1], "chosen": WANTED[1:], "rejected": []},
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    record = FORMS[name]
    columns = form(record)
    assert columns is not None
    assert read(record, columns) == (WANTED, None)
    assert asked(read(record, columns)).messages == WANTED[:1]


def test_alpaca_joins_the_input_and_knows_history_and_system() -> None:
    record = {"instruction": "Add", "input": "2 and 2", "output": "4", "system": "Sums.", "history": '[["hi", "hello"]]'}
    messages = read(record, form(record) or ()).messages
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[3]["content"] == "Add\n\n2 and 2"


def test_tools_and_calls() -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    openai = {
        "messages": [
            WANTED[0],
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "4"},
            WANTED[1],
        ],
        "tools": json.dumps(tools),
    }
    talk = read(openai, ("messages",))
    assert talk.tools == tools
    assert talk.messages[1]["tool_calls"] == [{**call, "function": {"name": "add", "arguments": {"a": 2}}}]
    assert talk.messages[2] == {"role": "tool", "content": "4", "tool_call_id": "c1"}
    theirs = {
        "conversations": [
            {"from": "human", "value": "2+2?"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2}}'},
            {"from": "observation", "value": "4"},
            {"from": "gpt", "value": "4"},
        ]
    }
    messages = read(theirs, ("conversations",)).messages
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 2}}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": None}, "empty messages"),
        ({"messages": "[{"}, "not JSON"),
        ({"messages": "hello"}, "not JSON"),
        ({"messages": [{"role": "user", "content": "x"}]}, "says nothing"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "message 1: the role 'wizard' is none of"),
        ({"messages": [*WANTED, {"role": "assistant", "content": " "}]}, "message 3: it has no content"),
        ({"messages": [{"content": "x"}]}, "message 1: it has no role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not text"),
        ({"prompt": "x", "response": ""}, "empty response"),
        ({"prompt": " ", "response": "y"}, "empty prompt"),
    ],
)
def test_what_is_wrong_is_named(record: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(record, form(record) or ())


def test_other_columns_are_not_conversations() -> None:
    assert form(["text", "label"]) is None and form(["prompt", "label"]) is None and form(["instruction"]) is None
    assert form(["id", "messages", "label"]) == ("messages",)


def test_a_question_alone_can_be_asked() -> None:
    for record in ({"messages": WANTED[:1]}, {"prompt": "2+2?"}, {"instruction": "2+2?", "output": None}):
        columns = form({**record, "response": None}) or ()
        assert asked(read(record, columns, answered=False)).messages == WANTED[:1]
