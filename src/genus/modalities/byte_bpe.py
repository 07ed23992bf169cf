"""The ids that `tokenizers` gives for a byte-level BPE or unigram, several times faster: a split by `re`, a memory of words.

A running text repeats its words, so most of the work is done many times over. Here the pre-tokenizer's pattern runs in
Python's `re`, with the character classes spelt out as ranges, and the ids of every piece met are kept. What the two regular
expression engines might see differently (characters whose class is younger than Unicode 3.2, and a few others) goes the slow way.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import chain
from typing import Any

from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Core

QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""Pre-tokenizer patterns of the three families, as their tokenizer.json spell them (GPT-2's is built into `ByteLevel`)."""

MEMORY = 200_000
"""Pieces whose ids are kept: some 50 MB. When half as many are new, those that were not met meanwhile are forgotten."""

LATELY = 1_000_000
"""Pieces that tell whether they repeat often enough; what was before counts ever less."""
REST = 16
"""Batches after which it is tried again when they did not."""


def fast_encoder(core: Core) -> Encoder | None:
    """An `Encoder` for a tokenizer of a kind it knows; None for any other."""
    state = json.loads(core.to_str())
    model = state["model"]
    if model["type"] not in ("BPE", "Unigram") or state["normalizer"] is not None:
        return None
    if any(
        model.get(name) for name in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    ):
        return None
    if any(not token["special"] for token in state["added_tokens"]):
        return None
    pattern = _pattern_of(state["pre_tokenizer"] or {})
    if pattern is None or not isinstance(core.model, models.BPE | models.Unigram):
        return None
    return Encoder(core.model, pattern)


class Encoder:
    """Ids of texts, special tokens in the text being letters."""

    def __init__(self, model: models.BPE | models.Unigram, pattern: str) -> None:
        self._split = compiled(pattern).findall
        self._memory = _Memory(model)
        self._met = 0
        self._rested = 0

    def pays(self) -> bool:
        """Whether pieces repeated often enough lately: Chinese verse under GPT-2's kind of pattern, say, hardly has a line twice.

        To be asked before every batch of texts.
        """
        if self._met < 10_000 or self._memory.missed < self._met / 3:
            return True
        self._rested += 1
        if self._rested < REST:
            return False
        self._met = self._memory.missed = self._rested = 0
        return True

    def encode(self, text: str) -> list[int] | None:
        """Ids of a text; None when it holds a character that is better left to `tokenizers`."""
        if not text.isascii() and _unsure().search(text):
            return None
        if text.isascii() and _UNSURE_ASCII.search(text):
            return None
        if len(self._memory) > MEMORY // 2:
            self._memory.age()
        if self._met > LATELY:
            self._met, self._memory.missed = self._met // 2, self._memory.missed // 2
        pieces = self._split(text)
        self._met += len(pieces)
        return list(chain.from_iterable(map(self._memory.__getitem__, pieces)))


class _Memory(dict[str, list[int]]):
    """Ids of pieces, computed when first asked for."""

    def __init__(self, model: models.BPE | models.Unigram) -> None:
        self._tokenize = model.tokenize
        self._older: dict[str, list[int]] = {}
        self.missed = 0

    def __missing__(self, piece: str) -> list[int]:
        ids = self._older.get(piece)
        if ids is None:
            ids = [token.id for token in self._tokenize("".join(map(_SPELLING.__getitem__, piece.encode())))]
            self.missed += 1
        self[piece] = ids
        return ids

    def age(self) -> None:
        """Forget what has not been met since this was last called."""
        self._older = dict(self)
        self.clear()


def byte_level(pattern: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer that cuts by a pattern and spells the pieces in the alphabet of bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of the 256 bytes as printable characters (Radford et al. 2019, `bytes_to_unicode`): character -> byte."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {chr(byte): byte for byte in kept} | {chr(256 + i): byte for i, byte in enumerate(moved)}


_SPELLING = [character for character, _ in sorted(byte_alphabet().items(), key=lambda item: item[1])]
_RARE_CHINESE = "\U00020000-\U0002a6d6\U0002f800-\U0002fa1d"
# Beyond the Basic Multilingual Plane only rare Chinese characters (above) and common emoji are sure.
_UNSURE_BEYOND = (
    "\U00010000-\U0001f2ff\U0001f650-\U0001f67f\U0001f700-\U0001f8ff\U0001fa00-\U0001ffff"
    "\U0002a6d7-\U0002f7ff\U0002fa1e-\U0010ffff"
)
_UNSURE_ASCII = re.compile("[\x1c-\x1f]")  # spaces to Python only


def _pattern_of(pre_tokenizer: dict[str, Any]) -> str | None:
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    if len(steps) == 1:
        return GPT2 if steps[0].get("use_regex", True) else None
    first = steps[0]
    if len(steps) != 2 or first.get("type") != "Split" or steps[1].get("use_regex", True):
        return None
    pattern = first["pattern"].get("Regex")
    plain = first["behavior"] == "Isolated" and not first["invert"]
    return pattern if plain and pattern in (QWEN2, LLAMA3) else None


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern with \\p{L}, \\p{N} and \\s spelt out as ranges, for which `re` has bit maps."""
    letter, number = _ranges(lambda c: _kind(c) == "L") + _RARE_CHINESE, _ranges(lambda c: _kind(c) == "N")
    space = _ranges(lambda c: _kind(c) == "space")
    out, inside = [], False
    for part in re.findall(r"\\p\{.\}|\\.|.", pattern):
        ranges = {r"\p{L}": letter, r"\p{N}": number, r"\s": space}.get(part)
        if part == r"\S":
            part = f"[^{space}]"
        elif ranges is not None:
            part = ranges if inside else f"[{ranges}]"
        inside = (inside or part == "[") and part != "]"
        out.append(part)
    return re.compile("".join(out))


@cache
def _unsure() -> re.Pattern[str]:
    """Characters left to `tokenizers`: those whose class changed since Unicode 3.2, the long s (an s without case), most beyond
    the Basic Multilingual Plane."""
    then = unicodedata.ucd_3_2_0.category

    def changed(character: str) -> bool:
        return then(character) == "Cn" or then(character)[0] not in _as_then(unicodedata.category(character)[0])

    ranges = _ranges(lambda c: changed(c) or c in "\x1c\x1d\x1e\x1f\u017f\u180e\u212a")
    return re.compile(f"[{ranges}{_UNSURE_BEYOND}]")


def _as_then(kind: str) -> str:
    return kind if kind in "LNZ" else "CMPS"


def _kind(character: str) -> str:
    return "space" if character.isspace() else unicodedata.category(character)[0]


def _ranges(chosen: Callable[[str], bool]) -> str:
    found: list[list[int]] = []
    for code in chain(range(0xD800), range(0xE000, 0x10000)):
        if chosen(chr(code)):
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in found)
