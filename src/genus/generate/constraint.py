"""Constrained output: a text that follows a JSON schema, matches a regular expression, or is one of a few.

A grammar says after each token which tokens may come next; all others get no probability, and the model chooses among the rest as
it always does. The grammars are llguidance's (MIT licence), which knows what tokens can complete in bytes, so a token may end
amid a character and a word may be cut anywhere.

Shapes: V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from genus.generate.token_bytes import token_bytes
from genus.modalities.text import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

COMPILED = 64  # grammars kept ready for each tokenizer
SPACING = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""One line, with or without the usual spaces: where any white space may stand, a small model writes nothing else."""


@dataclass(frozen=True)
class Constraint:
    """What a text must look like from its first token on. Make one with `json`, `regex` or `choice`.

    Attributes:
        grammar: in llguidance's dialect of Lark. name: what to call it in an error.
    """

    grammar: str
    name: str = "grammar"

    @classmethod
    def json(cls, schema: dict[str, Any] | str | bool) -> Constraint:
        """JSON in one line that is valid under a schema (JSON Schema 2020-12; properties come in the schema's order).

        Args:
            schema: as an object, or as text. `True` or `{}`: any JSON.

        Raises:
            ValueError: not JSON, or no schema. What llguidance does not know of it is told when a text is begun.
        """
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except json.JSONDecodeError as error:
                raise ValueError(f"the schema is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise ValueError('a JSON schema is an object such as {"type": "object", "properties": {...}}')
        own = schema.get("x-guidance")
        schema = schema | {"x-guidance": SPACING | (own if isinstance(own, dict) else {})}
        return cls(f"start: %json {json.dumps(schema, ensure_ascii=False)}", "JSON schema")

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """A text that matches a regular expression from its beginning to its end.

        The syntax is that of Rust's `regex`: no look-around and no back references; `.` is any character but a line end.
        """
        if not pattern:
            raise ValueError("a regular expression must not be empty")
        escaped = pattern.replace("\n", "\\n")
        return cls(f"start: /{_slashes(escaped)}/", "regular expression")

    @classmethod
    def choice(cls, options: Sequence[str]) -> Constraint:
        """One of a few texts.

        Raises:
            ValueError: there is none, or an empty one.
        """
        if not options or "" in options:
            raise ValueError("a choice needs at least one text, and none of them empty")
        return cls(f"start: {' | '.join(json.dumps(option) for option in dict.fromkeys(options))}", "choice")

    def guide(self, tokenizer: Tokenizer, ends: frozenset[int]) -> Guide:
        """Follow one text. The grammar is compiled once per tokenizer.

        Args:
            ends: tokens that end a text.

        Raises:
            ValueError: the grammar is wrong or has a part that llguidance does not know, or no token can begin such a text.
            ModuleNotFoundError: llguidance is not installed.
        """
        vocabulary = _vocabulary(tokenizer)
        guide = Guide(vocabulary.matcher(self), vocabulary, ends)
        if guide.stuck:
            raise ValueError(f"{self.name}: this tokenizer has no token that could begin such a text")
        return guide


class Guide:
    """What a constraint allows after the tokens so far."""

    def __init__(self, matcher: LLMatcher, vocabulary: _Vocabulary, ends: frozenset[int], first: bool = True) -> None:
        self._matcher, self._vocabulary, self._ends, self._first = matcher, vocabulary, ends, first
        self._allowed: Tensor | None = None

    @property
    def complete(self) -> bool:
        """The text may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def over(self) -> bool:
        """The text may end here, and nothing can be added to it."""
        return self.complete and bool(self._matcher.is_stopped())

    @property
    def stuck(self) -> bool:
        """The text may not end here, and no token of the vocabulary goes on with it."""
        return not self.complete and not bool(self._going_on.any())

    def allowed(self) -> Tensor:
        """(V,) bool: the tokens that may come next. Those that end a text are among them when it is complete, or stuck."""
        mask = self._going_on
        if self.complete or not bool(mask.any()):
            mask = mask.clone()
            mask[list(self._ends)] = True
        return mask

    def push(self, number: int) -> None:
        """A token was added that is allowed and ends no text."""
        if not self._matcher.consume_token(self._vocabulary.name(number, self._first)):
            raise ValueError(f"token {number} is not allowed here: {self._matcher.get_error()}")
        self._first, self._allowed = False, None

    def copy(self) -> Guide:
        """The same place in the same text, to try tokens on."""
        return Guide(self._matcher.deep_copy(), self._vocabulary, self._ends, self._first)

    @property
    def _going_on(self) -> Tensor:
        if self._allowed is None:
            self._allowed = self._vocabulary.allowed(self._matcher, self._first)
        return self._allowed


class _Words:
    """The tokens of a tokenizer as llguidance asks for them.

    Tokenizers that begin words with a space write the first word of a text without it. So such a vocabulary stands here twice:
    id n is the token anywhere, V + n the token as the first of a text.

    It refers neither to the tokenizer nor to llguidance's objects: those keep it alive.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        known = token_bytes(tokenizer)
        self.twice = known.first != known.later
        # what a token without text is called matters to nobody; it must only not be another's name
        self.tokens = [text or b"\xff<%d>" % number for number, text in enumerate(known.later)]
        if self.twice:
            self.tokens += [text or b"\xff<first %d>" % number for number, text in enumerate(known.first)]
        self.bos_token_id, self.eos_token_id = None, tokenizer.eos_id
        self.special_token_ids = [number for number, text in enumerate(self.tokens) if text.startswith(b"\xff<")]
        self._core = tokenizer.plain

    def __call__(self, text: bytes | str) -> list[int]:
        plain = text if isinstance(text, str) else text.decode(errors="replace")
        return self._core.encode(plain, add_special_tokens=False).ids


class _Vocabulary:
    """A tokenizer made ready for llguidance, with the grammars compiled for it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("constrained output needs llguidance: pip install 'genus[grammar]'") from error
        words = _Words(tokenizer)
        self._size, self._end, self._twice = tokenizer.vocab_size, tokenizer.eos_id, words.twice
        self._tokenizer: LLTokenizer = LLTokenizer(TokenizerWrapper(words))
        self._make = LLMatcher
        self._compiled = lru_cache(COMPILED)(self._compile)

    def matcher(self, constraint: Constraint) -> LLMatcher:
        """At the beginning of a text."""
        return self._compiled(constraint).deep_copy()

    def _compile(self, constraint: Constraint) -> LLMatcher:
        # Without forcing, every token that keeps the text legal is allowed, not the usual spelling alone of what must follow.
        matcher = self._make(self._tokenizer, '%llguidance {"no_forcing": true}\n' + constraint.grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(f"{constraint.name}: {matcher.get_error()}")
        return matcher

    def name(self, number: int, first: bool) -> int:
        """What llguidance calls a token."""
        return self._size + number if first and self._twice else number

    def allowed(self, matcher: LLMatcher, first: bool) -> Tensor:
        """(V,) bool: the tokens that may come, those that end a text left out."""
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        start = self.name(0, first)
        found = torch.from_numpy(bits[start : start + self._size].astype(bool))
        found[self._end] = False
        return found


_VOCABULARIES: WeakKeyDictionary[Tokenizer, _Vocabulary] = WeakKeyDictionary()


def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary:
    if tokenizer not in _VOCABULARIES:
        _VOCABULARIES[tokenizer] = _Vocabulary(tokenizer)
    return _VOCABULARIES[tokenizer]


def _slashes(pattern: str) -> str:
    """A pattern between slashes: its own slashes escaped."""
    result, escaped = [], False
    for letter in pattern:
        result.append("\\/" if letter == "/" and not escaped else letter)
        escaped = letter == "\\" and not escaped
    return "".join(result)
