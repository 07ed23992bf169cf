"""Conversations: the ids and the mask are those of transformers, for templates in the style of several families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genus.modalities.chat import Chat, Lesson, ready
from genus.modalities.chat_template import CHATML
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import build, bytes_tokenizer

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Italy? "},
    {"role": "assistant", "content": "\n 罗马 is Rome,\n\nthe old city. "},
    {"role": "user", "content": "Thank you"},
]
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|eot|>")

# [[ ... ]] is what the assistant generates: transformers is told by {% generation %}, Genus finds it alone.
OPEN, SHUT = "{% generation %}", "{% endgeneration %}"
STYLES = {
    "chatml": "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "[[{{ m.content + '<|im_end|>' }}]]{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "header": "{{ bos_token }}{% for m in messages %}{{ '<|start|>' + m.role + '<|end|>\n\n' }}{% if m.role == 'assistant' %}"
    "[[{{ m.content | trim + '<|eot|>' }}]]{% else %}{{ m.content | trim + '<|eot|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}",
    "brackets": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}[[{{ ' ' + m.content + eos_token }}]]{% else %}{{ m.content + '\n\n' }}{% endif %}"
    "{% endfor %}",
    "model": "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<|start|>' + role + '\n' }}{% if role == 'model' %}[[{{ m.content | trim + '<|end|>' }}]]"
    "{% else %}{{ m.content | trim + '<|end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>model\n' }}{% endif %}",
}
FORGETFUL = (  # as reasoning models do: only the last answer keeps its thoughts, and the prompt opens them
    "{% for m in messages %}{{ '<|start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n<think>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    """A byte-level BPE that has the special tokens of all templates."""
    texts = [m["content"] + "\nassistant user system model" for m in TALK] * 20
    return build("bpe", texts, 0, vocab=400).extended(SPECIAL)


def taught(tokenizer: Tokenizer, template: str, opened: str = "", shut: str = "") -> Tokenizer:
    return Tokenizer(tokenizer.core, tokenizer.config, template.replace("[[", opened).replace("]]", shut))


def theirs(tokenizer: Tokenizer, folder: Path, messages: list, **options: Any) -> Any:
    """What transformers makes of a conversation."""
    from transformers import AutoTokenizer

    tokenizer.save(folder)
    return AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, return_dict=True, **options)


def said(tokenizer: Tokenizer, lesson: Lesson) -> str:
    return tokenizer.decode([i for i, each in zip(lesson.ids, lesson.said, strict=True) if each], special=True)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("marked", [False, True], ids=["found", "marked"])
def test_ids_and_mask_are_those_of_transformers(plain: Tokenizer, tmp_path: Path, style: str, marked: bool) -> None:
    oracle = theirs(taught(plain, STYLES[style], OPEN, SHUT), tmp_path, TALK, return_assistant_tokens_mask=True)
    ours = taught(plain, STYLES[style], OPEN, SHUT) if marked else taught(plain, STYLES[style])
    (lesson,) = Chat(ours).lessons(TALK)
    length = len(lesson.ids)
    assert lesson.ids == oracle["input_ids"][:length] and sum(lesson.said) > 10
    assert [int(each) for each in lesson.said] == oracle["assistant_masks"][:length]
    assert not any(oracle["assistant_masks"][length:])


@pytest.mark.parametrize("style", STYLES)
def test_the_mask_is_the_words_and_the_end_of_each_turn(plain: Tokenizer, style: str) -> None:
    tokenizer = taught(plain, STYLES[style])
    (lesson,) = Chat(tokenizer).lessons(TALK)
    end = {"chatml": "<|im_end|>", "header": "<|eot|>", "brackets": "<|endoftext|>", "model": "<|end|>"}[style]
    words = [m["content"] for m in TALK if m["role"] == "assistant"]
    words = [w.strip() for w in words] if style in ("header", "model") else words
    before = " " if style == "brackets" else ""
    assert said(tokenizer, lesson) == "".join(before + w + end for w in words)
    assert Chat(tokenizer).ends == {tokenizer.id(end), tokenizer.eos_id}


@pytest.mark.parametrize("style", [*STYLES, "default"])
def test_the_prompt_is_what_transformers_asks(plain: Tokenizer, tmp_path: Path, style: str) -> None:
    tokenizer = ready(plain) if style == "default" else taught(plain, STYLES[style])
    assert Chat(tokenizer).prompt(TALK) == theirs(tokenizer, tmp_path, TALK, add_generation_prompt=True)["input_ids"]


def test_tools_and_calls_are_the_template_s(plain: Tokenizer, tmp_path: Path) -> None:
    tokenizer = ready(plain)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}
    talk = [
        {"role": "system", "content": "Help."},
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "dry"},
        {"role": "assistant", "content": "No."},
    ]
    (lesson,) = Chat(tokenizer).lessons(talk, tools)
    oracle = theirs(tokenizer, tmp_path, talk, tools=tools)["input_ids"]
    assert lesson.ids == oracle[: len(lesson.ids)]
    assert said(tokenizer, lesson) == (
        '<tool_call>{"name": "weather", "arguments": {"city": "Zürich"}}</tool_call><|im_end|>No.<|im_end|>'
    )
    assert Chat(tokenizer).text(talk, tools).count("Help.") == 1


def test_the_letters_of_a_special_token_stay_letters() -> None:
    tokenizer = ready(bytes_tokenizer())
    talk = [{"role": "user", "content": "say <|im_end|>"}, {"role": "assistant", "content": "<|im_end|>!"}]
    (lesson,) = Chat(tokenizer).lessons(talk)
    end = tokenizer.id("<|im_end|>")
    assert lesson.ids.count(end) == 2  # the user's turn and the assistant's
    assert said(tokenizer, lesson) == "<|im_end|>!<|im_end|>" and sum(lesson.said) == len("<|im_end|>!") + 1
    assert tokenizer.decode(lesson.ids, special=True) == Chat(tokenizer).text(talk).rstrip("\n")


def test_a_template_that_forgets_gives_a_lesson_for_each_turn(plain: Tokenizer) -> None:
    tokenizer = taught(plain, FORGETFUL)
    talk = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>easy</think>2"},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "<think>hm</think>4"},
    ]
    last, first = Chat(tokenizer).lessons(talk)
    assert said(tokenizer, first) == "easy</think>2<|end|>" and said(tokenizer, last) == "hm</think>4<|end|>"
    assert "easy" not in tokenizer.decode(last.ids) and tokenizer.decode(first.ids).startswith("user\n1+1?")


def test_an_opened_tag_that_is_left_out_takes_nothing_of_the_answer(plain: Tokenizer) -> None:
    tokenizer = taught(plain, FORGETFUL)
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<them>"}]
    assert said(tokenizer, Chat(tokenizer).lessons(talk)[0]) == "<them><|end|>"


def test_a_turn_that_only_the_next_one_ends_is_learnt_whole(plain: Tokenizer) -> None:
    """And special tokens before the words are not its end."""
    template = "{% for m in messages %}{{ '<|start|>' + m.role }}{% if m.role == 'assistant' %}<|eot|>{% endif %}{{ m.content }}"
    tokenizer = taught(plain, template + "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}")
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "z"}]
    assert said(tokenizer, Chat(tokenizer).lessons(talk)[0]) == "<|eot|>yes"


def test_calls_are_written_as_the_template_wants_them(plain: Tokenizer) -> None:
    calls = "{% for c in m.tool_calls %}{{ c.function.name + c.function.arguments }}{% endfor %}"
    template = "{% for m in messages %}{{ m.role + ':' }}" + calls + "{{ m.content or '' }}<|end|>{% endfor %}"
    tokenizer = taught(plain, template)
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": "é"}}}
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert 'assistant:add{"a": "é"}<|end|>' in Chat(tokenizer).text(talk)


def test_a_base_keeps_its_template_and_another_gets_chatml() -> None:
    base = bytes_tokenizer()
    got = ready(base)
    assert got.chat_template == CHATML and got.vocab_size == base.vocab_size + 2 and got.extends(base)
    assert ready(got) is got
    assert taught(base, "x").chat_template == ready(taught(base, "x")).chat_template


def test_what_cannot_be_learnt_is_said() -> None:
    with pytest.raises(ValueError, match="no chat template"):
        Chat(bytes_tokenizer())
    chat = Chat(ready(bytes_tokenizer()))
    with pytest.raises(ValueError, match="says nothing"):
        chat.lessons([{"role": "user", "content": "anyone?"}])
    strict = "{% if messages[0].role != 'user' %}{{ raise_exception('begin with the user') }}{% endif %}x"
    with pytest.raises(ValueError, match="begin with the user"):
        Chat(taught(bytes_tokenizer(), strict)).lessons(TALK)


def test_a_template_cannot_reach_out() -> None:
    """Templates come from strangers."""
    with pytest.raises(ValueError, match="unsafe"):
        Chat(taught(bytes_tokenizer(), "{{ ''.__class__.__mro__ }}{{ messages.append(1) }}")).text(TALK)
