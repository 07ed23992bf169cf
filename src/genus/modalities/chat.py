"""Conversations as token ids, with a mark on every token that the assistant says.

The ids are those of transformers' `apply_chat_template`, but for one thing: a user who types the letters of a special token
(`<|im_end|>`) gets letters and cannot end the turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer as Core
from tokenizers.processors import TemplateProcessing

from genus.modalities.chat_template import CHATML, CHATML_TOKENS, GENERATION, Message, render
from genus.modalities.text import Tokenizer

QUOTED = ("\ufdd2", "\ufdd3")
"""Around the letters of a special token in a message. No text holds these two characters."""

_MARKS = re.compile("[" + "".join((*GENERATION, *QUOTED)) + "]")

Span = tuple[int, int]


@dataclass(frozen=True)
class Lesson:
    """A conversation, or the beginning of one, to learn from.

    Attributes:
        ids: its tokens, up to the last that the assistant says. said: whether the assistant says each of them: its words and
            the token that ends its turn, never what the template writes before them.
    """

    ids: list[int]
    said: list[bool]


def ready(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with a chat template: its own, or ChatML, whose two tokens come after the last id."""
    if tokenizer.chat_template:
        return tokenizer
    larger = tokenizer.extended(CHATML_TOKENS)
    return Tokenizer(larger.core, larger.config, CHATML)


class Chat:
    """A tokenizer's way with conversations.

    Args:
        tokenizer: one that has a chat template (`ready` gives it one).

    Raises:
        ValueError: it has none.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.chat_template:
            raise ValueError(
                "the model has no chat template, so it was not taught to converse; tune it on conversations first: "
                "genus tune RUN CONVERSATIONS.jsonl -o CHAT"
            )
        self.tokenizer = tokenizer
        self.template: str = tokenizer.chat_template
        self._core = Core.from_str(tokenizer.core.to_str())
        # A post-processor may trim spaces off the offsets, and the mask must know where each token really begins.
        self._core.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
        added = tokenizer.core.get_added_tokens_decoder().values()
        special = sorted((token.content for token in added if token.special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) or "(?!)")

    # ---- to ask

    def text(self, messages: Sequence[Message], tools: Sequence[Any] | None = None, prompt: bool = False) -> str:
        """The conversation as the template writes it; `prompt`: up to where the assistant's next words belong."""
        return _unmarked(self._render(messages, tools, prompt))[0]

    def prompt(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> list[int]:
        """Tokens of a conversation up to where the assistant's next words belong."""
        return self._encode(*_unmarked(self._render(messages, tools, prompt=True))[::2])[0]

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end the assistant's turn; the tokenizer's end token is always one."""
        try:
            lessons = self.lessons([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        except ValueError:  # a template that asks for more than a question and an answer
            return frozenset((self.tokenizer.eos_id,))
        last = {lesson.ids[-1] for lesson in lessons}
        return frozenset(last & self.tokenizer.special_ids) | {self.tokenizer.eos_id}

    # ---- to learn

    def lessons(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> list[Lesson]:
        """What there is to learn from a conversation: one lesson with all the assistant's turns.

        A template that later changes what an earlier turn looked like when it was said (one that drops old reasoning, say)
        gives a lesson of its own for each such turn. A turn that answers nobody, at the very beginning, is not learnt.

        Raises:
            ValueError: the template refuses the messages, or the assistant says nothing.
        """
        whole, marked, quoted = _unmarked(self._render(messages, tools))
        texts = [(whole, quoted, marked)] if marked else self._turns(messages, tools, whole, quoted)
        lessons = [self._lesson(*each) for each in texts]
        lessons = [lesson for lesson in lessons if lesson.ids]
        if not lessons:
            raise ValueError("the assistant says nothing in this conversation")
        return lessons

    def _turns(
        self, messages: Sequence[Message], tools: Sequence[Any] | None, whole: str, quoted: list[Span]
    ) -> list[tuple[str, list[Span], list[Span]]]:
        """Texts, with what is quoted in each and the spans that the assistant says, found by rendering turn by turn."""
        together: list[Span] = []
        apart = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant" or i == 0:
                continue
            asked = _unmarked(self._render(messages[:i], tools, prompt=True))[0]
            told, _, letters = _unmarked(self._render(messages[: i + 1], tools))
            start, before = _shared(asked, told), _shared(asked, self.text(messages[:i], tools))
            words = str(message.get("content") or "").strip()
            found = told.find(words, min(before, start))
            if start < len(asked) and found >= 0:  # the prompt has words (an opened tag) that are left out once it is answered
                start = min(start, found)
            if start < before:
                raise ValueError(
                    "the chat template writes a question differently once it is answered, so the answer cannot be found; "
                    "mark it in the template with {% generation %} ... {% endgeneration %}"
                )
            end = self._end(told, max(start, found + len(words)), letters)
            if whole[:end] == told[:end]:
                together.append((start, end))
            else:
                apart.append((told, letters, [(start, end)]))
        return [(whole, quoted, together), *apart] if together else apart

    def _end(self, text: str, start: int, quoted: list[Span]) -> int:
        """Where a turn whose words end at `start` ends: after its last special token, before the space up to the next turn."""
        letters = {place for place, _ in quoted}
        ends = [found.end() for found in self._special.finditer(text, start) if found.start() not in letters]
        return ends[-1] if ends else len(text)

    def _lesson(self, text: str, quoted: list[Span], spans: list[Span]) -> Lesson:
        ids, places = self._encode(text, quoted)
        said = [False] * len(ids)
        turn = 0
        for i, (start, end) in enumerate(places):
            while turn < len(spans) and start >= spans[turn][1]:
                turn += 1
            if turn == len(spans):
                break
            said[i] = start >= spans[turn][0] and end <= spans[turn][1]
        length = max((i + 1 for i, each in enumerate(said) if each), default=0)
        return Lesson(ids[:length], said[:length])

    # ---- small matters

    def _render(self, messages: Sequence[Message], tools: Sequence[Any] | None, prompt: bool = False) -> str:
        tokenizer = self.tokenizer
        names = {"bos_token": tokenizer.token(tokenizer.bos_id), "eos_token": tokenizer.token(tokenizer.eos_id)}
        for name in ("unk_token", "pad_token", "sep_token", "cls_token", "mask_token"):
            value = tokenizer.config.get(name)
            names |= {name: value["content"] if isinstance(value, dict) else value} if value else {}
        values = {"tools": self._quote(tools), "add_generation_prompt": prompt, **names}
        quoted = [self._quote(message) for message in messages]
        try:
            return render(self.template, quoted, **values)
        except ValueError:
            if not any(message.get("tool_calls") for message in quoted):
                raise
            return render(self.template, [_calls_as_text(message) for message in quoted], **values)

    def _quote(self, value: Any) -> Any:
        """The same data with marks around the letters of special tokens."""
        if isinstance(value, str):
            return self._special.sub(lambda found: found[0].join(QUOTED), _MARKS.sub("", value))
        if isinstance(value, dict):
            return {key: self._quote(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._quote(item) for item in value]
        return value

    def _encode(self, text: str, quoted: list[Span]) -> tuple[list[int], list[Span]]:
        """Ids, and which characters each stands for; what is quoted is letters."""
        ids: list[int] = []
        places: list[Span] = []
        at = 0
        for start, end in [*quoted, (len(text), len(text))]:
            if at < start:
                piece = self._core.encode(text[at:start], add_special_tokens=False)
                ids += piece.ids
                places += [(a + at, b + at) for a, b in piece.offsets]
            letters = self.tokenizer.encode(text[start:end]) if start < end else []
            ids += letters
            places += [(start, end)] * len(letters)
            at = end
        return ids, places


def _calls_as_text(message: Message) -> Message:
    """The message with the arguments of its calls written as JSON, as templates want them that do not write it themselves."""

    def written(call: dict[str, Any]) -> dict[str, Any]:
        arguments = call["function"].get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return call | {"function": call["function"] | {"arguments": text}}

    calls = message.get("tool_calls")
    return message | {"tool_calls": [written(call) for call in calls]} if calls else message


def _shared(a: str, b: str) -> int:
    """Length of the beginning that two texts share."""
    return len(a) if b.startswith(a) else next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _unmarked(text: str) -> tuple[str, list[Span], list[Span]]:
    """The text without marks, the spans between the marks of `GENERATION`, and those between the marks of `QUOTED`."""
    clean: list[str] = []
    spans: dict[str, list[Span]] = {GENERATION[1]: [], QUOTED[1]: []}
    opened: dict[str, int] = {}
    length = at = 0
    for mark in _MARKS.finditer(text):
        clean.append(text[at : mark.start()])
        length += mark.start() - at
        at = mark.end()
        if mark[0] in (GENERATION[0], QUOTED[0]):
            opened[GENERATION[1] if mark[0] == GENERATION[0] else QUOTED[1]] = length
        elif mark[0] in opened:  # a template that cuts messages up may have dropped the first of the two
            spans[mark[0]].append((opened.pop(mark[0]), length))
    return "".join([*clean, text[at:]]), spans[GENERATION[1]], spans[QUOTED[1]]
