"""Calls of functions are read as the chat template writes them, however the text is cut into pieces."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.modalities.chat import Chat
from genus.modalities.chat_template import CHATML
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import bytes_tokenizer
from genus.serve.calls import CallFormat, CallReader

HERMES = """\
{%- if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}
<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA = """\
{%- if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}
{%- for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception("one call") }}{% endif %}
{%- set c = m.tool_calls[0].function %}<|im_start|>{{ m.role }}

{"name": "{{ c.name }}", "parameters": {{ c.arguments | tojson }}}<|im_end|>
{%- else %}<|im_start|>{{ m.role }}

{{ m.content }}<|im_end|>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant

{% endif %}"""
MISTRAL = """\
{%- for m in messages %}{% if m.role == "user" %}{% if tools %}[TOOLS]{{ tools | tojson }}{% endif %}[INST] {{ m.content }}[/INST]
{%- elif m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}
{{- {"name": c.function.name, "arguments": c.function.arguments, "id": c.id} | tojson }}{% if not loop.last %}, {% endif %}
{%- endfor %}]{{ eos_token }}{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"""
TEMPLATES = {"chatml": CHATML, "hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL}


def chat(template: str) -> Chat:
    tokenizer = bytes_tokenizer().extended(("<|im_start|>", "<|im_end|>", "[TOOL_CALLS]", "[INST]"))
    return Chat(Tokenizer(tokenizer.core, tokenizer.config, template))


@pytest.fixture(scope="module", params=TEMPLATES)
def form(request: pytest.FixtureRequest) -> CallFormat:
    found = CallFormat.of(chat(TEMPLATES[request.param]))
    assert found is not None
    return found


def written(form: CallFormat, *calls: tuple[str, dict]) -> str:
    """A text with calls, in the form."""
    key = form.arguments[-1]
    return form.opening + form.between.join(json.dumps({"name": name, key: value}) for name, value in calls) + form.closing


def test_a_call_is_read_back(form: CallFormat) -> None:
    words, calls = form.parse(written(form, ("add", {"a": 1, "b": [2, {"c": "}"}]})))
    assert not words
    (call,) = calls
    assert call.name == "add" and json.loads(call.arguments) == {"a": 1, "b": [2, {"c": "}"}]}


def test_several_calls(form: CallFormat) -> None:
    if not form.between:
        pytest.skip("this template knows one call at a time")
    _, calls = form.parse(written(form, ("a", {}), ("b", {"x": 1})))
    assert [call.name for call in calls] == ["a", "b"]


def test_what_is_no_call_stays_text(form: CallFormat) -> None:
    for text in ("just words", "{broken", form.opening + "{broken", form.opening + '{"other": 1}', "", "3 < 4 [x]"):
        assert form.parse(text) == (text, [])


@settings(deadline=None)
@given(
    cuts=st.lists(st.integers(0, 120), max_size=8), before=st.sampled_from(["", "Let me see. ", "a < b\n\n"]), call=st.booleans()
)
def test_pieces_do_not_matter(form: CallFormat, cuts: list[int], before: str, call: bool) -> None:
    before = before if form.anywhere or not call else ""
    text = before + (written(form, ("add", {"a": 1})) if call else "and no more {words}")
    reader = CallReader(form)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    shown = [reader.push(text[a:b]) for a, b in pairwise(places)]
    words = "".join(shown) + reader.finish()
    assert (len(reader.calls) == 1) == call
    assert words == (before.rstrip() if call else text)


def test_words_are_shown_as_soon_as_they_are_certain() -> None:
    form = CallFormat.of(chat(CHATML))
    assert form is not None and form.opening == "<tool_call>"
    reader = CallReader(form)
    assert reader.push("one <") == "one" and reader.push("b> two") == " <b> two" and reader.push("<tool_") == ""


def test_schema_of_a_call(form: CallFormat) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}}}
    schema = form.schema([{"name": "add", "parameters": parameters}])
    assert schema["properties"]["name"] == {"const": "add"} and schema["properties"][form.arguments[-1]] == parameters
    assert len(form.schema([{"name": "a"}, {"name": "b"}])["anyOf"]) == 2


def test_a_template_without_functions() -> None:
    assert CallFormat.of(chat("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")) is None
