"""Where words begin among the tokens of a text, whatever the tokenizer."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from genus.modalities.byte_bpe import byte_alphabet
from genus.modalities.text import Tokenizer

HAN = "㐀-䶿一-鿿豈-﫿"  # Chinese characters, which no space separates
_RUN = re.compile(rf"(?P<han>[{HAN}]+)|(?:(?![{HAN}])[^\W_])+(?:['’](?:(?![{HAN}])[^\W_])+)*")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BREAK = b"\n"  # what stands for a special token: no word reaches across


class WordStarts:
    """Says of each token of a row whether a word begins with it.

    A word is a run of letters and digits, with an apostrophe inside (`don't`), or what jieba takes for a word in a run of Chinese
    characters. A token that begins inside a word goes on with it; any other begins one, be it a mark or a space. So the pieces of
    a word go together, and a token that holds several words is one unit.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, ids: Iterable[int]) -> np.ndarray:
        """(n,) bool for a row of n ids.

        Raises:
            ValueError: there is Chinese in it, and jieba is not installed.
        """
        pieces = [self._spelt(int(i)) for i in ids]
        starts = np.cumsum([0, *map(len, pieces)])[:-1]
        text = b"".join(pieces).decode("utf-8", "surrogateescape")  # a row may begin or end inside a character
        place = np.cumsum([0, *(len(c.encode("utf-8", "surrogateescape")) for c in text)])  # of every character, in bytes
        begins = np.zeros(int(place[-1]) + 1, dtype=bool)
        begins[place] = True
        for first, last in _words(text):
            begins[place[first + 1 : last]] = False
        return begins[starts]

    def _spelt(self, number: int) -> bytes:
        spelling = self._table.get(number)
        if spelling is None:
            spelling = self._table[number] = self._spell(number)
        return spelling

    @cached_property
    def _table(self) -> dict[int, bytes]:
        return dict.fromkeys(self.tokenizer.special_ids, _BREAK)

    def _spell(self, number: int) -> bytes:
        """The bytes of a token inside a text, a space before it where the tokenizer means one."""
        token = self.tokenizer.token(number)
        if token is None:
            return _BREAK
        if self._decoder == "ByteLevel":
            return bytes(self._byte_of.get(character, _BREAK[0]) for character in token)
        if self._decoder == "WordPiece" or self.tokenizer.kind == "words":
            return (token[2:] if token.startswith("##") else f" {token}").encode()
        if byte := _BYTE.fullmatch(token):
            return bytes([int(byte[1], 16)])
        return token.replace("▁", " ").encode()

    @cached_property
    def _decoder(self) -> str:
        decoder = json.loads(self.tokenizer.core.to_str())["decoder"] or {}
        return str(decoder.get("type"))

    @cached_property
    def _byte_of(self) -> dict[str, int]:
        return byte_alphabet()


def _words(text: str) -> Iterator[tuple[int, int]]:
    """First and last character (exclusive) of every word."""
    for match in _RUN.finditer(text):
        start = match.start()
        for _, first, last in _jieba().tokenize(match[0]) if match["han"] else [(match[0], 0, len(match[0]))]:
            yield start + first, start + last


def _jieba() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is of a time when "\\." was no warning
            import jieba
    except ImportError:
        raise ValueError(
            "the text is partly Chinese, and whole words of it are found with jieba, which is not installed: "
            "pip install 'genus[chinese]', or set objective.whole_words=false"
        ) from None
    jieba.setLogLevel(60)
    return jieba
