"""Calls of functions: how a chat template writes them, found out by letting it write one, and how they are read back.

Templates differ in what stands around a call (`<tool_call>`, `[TOOL_CALLS] [`, nothing) and in the names inside (`arguments`,
`parameters`). So the template is given a call of a function that nobody has, and what it writes is the form.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.modalities.chat import Chat

NAME, KEY, VALUE = "probe_function", "probe_key", "probe_value"
MARKER = 3  # characters that a mark must have to be looked for anywhere in a text; a shorter one counts at the beginning alone

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"\s+")
Path = tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """One call. `arguments` is JSON, as the model wrote it or as it means the same."""

    name: str
    arguments: str

    def render(self) -> dict[str, Any]:
        """As OpenAI's interface has it, with an id of its own."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


@dataclass(frozen=True)
class CallFormat:
    """A template's form.

    Attributes:
        prompt: what stands between the assistant's beginning and the first call, special tokens and all. opening, between,
            closing: what stands before, between and after calls in a text, without special tokens and spaces around.
        example: the JSON of the call that was tried. name, arguments: the way to each inside it.
    """

    prompt: str
    opening: str
    between: str
    closing: str
    example: dict[str, Any]
    name: Path
    arguments: Path

    @classmethod
    def of(cls, chat: Chat) -> CallFormat | None:
        """The form of a template; None when it has no place for functions, or does not write calls as JSON objects."""
        asked = [{"role": "user", "content": "a"}]
        function = {"name": NAME, "description": "b", "parameters": {"type": "object", "properties": {KEY: {"type": "string"}}}}
        tools = [{"type": "function", "function": function}]
        call = {"id": "callprobe", "type": "function", "function": {"name": NAME, "arguments": {KEY: VALUE}}}

        def written(count: int) -> str:
            return chat.text([*asked, {"role": "assistant", "content": "", "tool_calls": [call] * count}], tools)

        try:
            before, one = chat.text(asked, tools, prompt=True), written(1)
        except ValueError:
            return None
        if NAME not in before:
            return None
        start = _shared(before, one)
        found = _objects(one, start)
        if not found:
            return None
        begin, end, example = found[0]
        try:
            two = _objects(text := written(2), start)
        except ValueError:  # it refuses more than one call at once
            two, text = [], ""
        special = re.compile("|".join(map(re.escape, _special(chat))) or "(?!)")

        def clean(part: str) -> str:
            return special.sub("", part).strip()

        name, arguments = _way(example, NAME), _way(example, {KEY: VALUE}) or _way(example, json.dumps({KEY: VALUE}))
        if name is None or arguments is None:
            return None
        prompt = one[start:begin]
        between = clean(text[two[0][1] : two[1][0]]) if len(two) > 1 else ""
        return cls(prompt, clean(prompt), between, clean(one[end:]), example, name, arguments)

    def parse(self, text: str) -> tuple[str, list[Call]]:
        """What a text says beside its calls, and the calls. A text whose calls cannot be read is all words."""
        at = text.find(self.opening) if self.anywhere else len(text) - len(text.lstrip())
        if at < 0 or not text.startswith(self.opening, at):
            return text, []
        place, calls = at + len(self.opening), list[Call]()
        while True:
            read = _object(text, place)
            call = None if read is None else self._call(read[1])
            if read is None or call is None:
                break
            calls.append(call)
            place = read[0]
            gap = text.find("{", place)
            if gap < 0 or not self.between or _bare(text[place:gap]) != _bare(self.between):
                break
            place = gap
        if not calls:
            return text, []
        rest = text[place:]
        if _bare(self.closing).startswith(_bare(rest)):
            rest = ""
        elif self.closing and (found := rest.find(self.closing)) >= 0:
            rest = rest[found + len(self.closing) :]
        return (text[:at].rstrip() + rest).strip(), calls

    @property
    def anywhere(self) -> bool:
        """Whether calls may stand after other words."""
        return len(self.opening) >= MARKER

    def schema(self, functions: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The JSON schema of a call of one of these functions."""
        kinds = [self._schema(self.example, (), function) for function in functions]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}

    def _schema(self, value: Any, way: Path, function: dict[str, Any]) -> dict[str, Any]:
        if way == self.name:
            return {"const": function["name"]}
        if way == self.arguments:
            written = isinstance(value, str)
            return {"type": "string"} if written else function.get("parameters") or {"type": "object"}
        if isinstance(value, dict):
            inside = {key: self._schema(item, (*way, key), function) for key, item in value.items()}
            return {"type": "object", "properties": inside, "required": list(inside), "additionalProperties": False}
        return {"type": "string"} if value == "callprobe" else {"const": value}

    def _call(self, value: dict[str, Any]) -> Call | None:
        name, arguments = _at(value, self.name), _at(value, self.arguments)
        if not isinstance(name, str):
            return None
        if isinstance(arguments, str):
            return Call(name, arguments)
        return Call(name, json.dumps({} if arguments is None else arguments, ensure_ascii=False))


@dataclass
class CallReader:
    """Reads a text in pieces and lets through what is certainly not part of a call.

    Attributes:
        calls: found when the text ends.
    """

    form: CallFormat
    calls: list[Call] = field(default_factory=list)
    _held: str = ""
    _free: bool = False  # whether the text has begun with something else, where only its beginning may be a call

    def push(self, piece: str) -> str:
        """Take a piece. Returns words that may be shown."""
        if self._free:
            return piece
        self._held += piece
        keep = self._certain()
        shown, self._held = self._held[:keep], self._held[keep:]
        return shown

    def finish(self) -> str:
        """The words that are left when the text has ended."""
        words, self.calls = self.form.parse(self._held)
        self._held = ""
        return words

    def _certain(self) -> int:
        """How many characters of what is held cannot belong to a call, or to the space before one."""
        text, mark = self._held, self.form.opening
        if self.form.anywhere:
            at = text.find(mark)
            if at < 0:
                at = next(
                    (i for i in range(max(0, len(text) - len(mark) + 1), len(text)) if mark.startswith(text[i:])), len(text)
                )
            return len(text[:at].rstrip())
        begun = _bare(text)
        wanted = _bare(mark) + "{"
        if wanted.startswith(begun[: len(wanted)]):
            return 0
        self._free = True
        return len(text)


def _special(chat: Chat) -> list[str]:
    """The letters of the special tokens, which the text of a model does not show; the longest first."""
    added = chat.tokenizer.core.get_added_tokens_decoder().values()
    return sorted((token.content for token in added if token.special), key=len, reverse=True)


def _objects(text: str, start: int) -> list[tuple[int, int, dict[str, Any]]]:
    """The JSON objects in a text that hold the probe's name: begin, end, value."""
    found: list[tuple[int, int, dict[str, Any]]] = []
    at = text.find("{", start)
    while at >= 0:
        read = _object(text, at)
        if read is not None and _way(read[1], NAME) is not None:
            found.append((at, *read))
            at = read[0] - 1
        at = text.find("{", at + 1)
    return found


def _object(text: str, at: int) -> tuple[int, dict[str, Any]] | None:
    """Where the JSON object ends that begins at a place, spaces aside, and its value."""
    at += len(text[at:]) - len(text[at:].lstrip())
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (json.JSONDecodeError, RecursionError):
        return None
    return (end, value) if isinstance(value, dict) else None


def _way(value: Any, wanted: Any, way: Path = ()) -> Path | None:
    """The keys that lead to a value inside an object."""
    if value == wanted:
        return way
    if isinstance(value, dict):
        ways = (_way(item, wanted, (*way, key)) for key, item in value.items())
        return next((each for each in ways if each is not None), None)
    return None


def _at(value: Any, way: Path) -> Any:
    for key in way:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _bare(text: str) -> str:
    return _SPACE.sub("", text)


def _shared(a: str, b: str) -> int:
    """Length of the beginning that two texts share."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
