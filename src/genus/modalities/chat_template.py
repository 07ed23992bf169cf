"""Chat templates: Jinja programs that turn a list of messages into the text a model was taught with.

They are rendered as Hugging Face transformers renders them (the same sandbox, filters and globals), so that one file,
`chat_template.jinja`, means the same everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

Message = dict[str, Any]
"""`{"role": "user", "content": "..."}`; an assistant's may have `tool_calls`, as in OpenAI's interface."""

CHATML = """\
{{- bos_token }}
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}
{{- messages[0].content + '\\n\\n' }}
{%- endif %}
{{- 'These functions can be called:\\n' }}
{%- for tool in tools %}
{{- tool | tojson + '\\n' }}
{%- endfor %}
{{- 'A call is written <tool_call>{"name": ..., "arguments": {...}}</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if not (tools and loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + {'name': call.function.name, 'arguments': call.function.arguments} | tojson + '</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""The template of a model that has none: OpenAI's ChatML, with a channel for tools."""

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")

GENERATION = ("\ufdd0", "\ufdd1")
"""Around what a template says, with `{% generation %}`, that the assistant generates. No text holds these two characters."""


def render(template: str, messages: list[Message], **values: Any) -> str:
    """The text of a conversation. What stands between `{% generation %}` and `{% endgeneration %}` is put between `GENERATION`.

    Args:
        values: what else the template may read: tools, add_generation_prompt, bos_token, ...

    Raises:
        ValueError: the template is wrong, or refuses these messages; the message says why.
    """
    from jinja2 import TemplateError

    values = {"tools": None, "documents": None, "add_generation_prompt": False, **values}
    try:
        return str(_compiled(template).render(messages=messages, **values))
    except (TemplateError, TypeError) as error:  # TypeError: the template joins what is missing to a string
        raise ValueError(f"the chat template refuses the conversation: {error}") from error


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    return _environment().from_string(template)


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The block that marks what the assistant says."""

        tags = {"generation"}  # noqa: RUF012  (jinja2's interface)

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

        def _marked(self, caller: Callable[[], str]) -> str:
            return caller().join(GENERATION)

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
