"""The bytes that every token adds to a text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from genus.modalities.byte_bpe import byte_alphabet
from genus.modalities.text import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_KNOWN: WeakKeyDictionary[Tokenizer, TokenBytes] = WeakKeyDictionary()


@dataclass(frozen=True)
class TokenBytes:
    """What each id adds to a text, in bytes of UTF-8; a token may hold a part of a character.

    Attributes:
        first: (V) at the beginning of a text: tokenizers that begin a word with a space leave the first one out.
        later: (V) anywhere else. b"" in both: special tokens and ids without a token.
    """

    first: tuple[bytes, ...]
    later: tuple[bytes, ...]

    def text(self, ids: Sequence[int]) -> bytes:
        """The bytes of a text that consists of these tokens."""
        return b"".join((self.later if place else self.first)[number] for place, number in enumerate(ids))


def token_bytes(tokenizer: Tokenizer) -> TokenBytes:
    """The bytes of the tokens of a vocabulary, found once.

    Raises:
        ValueError: what a token adds depends on more than whether it is the first (GPT-1's `</w>`, whose space goes when the text
            ends).
    """
    if tokenizer not in _KNOWN:
        _KNOWN[tokenizer] = _spelled(tokenizer) if tokenizer.byte_level else _decoded(tokenizer)
    return _KNOWN[tokenizer]


def _spelled(tokenizer: Tokenizer) -> TokenBytes:
    """Of a vocabulary that is written in GPT-2's alphabet of bytes."""
    letters = byte_alphabet()
    found = []
    for number in range(tokenizer.vocab_size):
        token = tokenizer.token(number)
        if token is None or number in tokenizer.special_ids:
            found.append(b"")
        elif all(letter in letters for letter in token):
            found.append(bytes(letters[letter] for letter in token))
        else:  # an added token, spelt as itself
            found.append(token.encode())
    return TokenBytes(tuple(found), tuple(found))


def _decoded(tokenizer: Tokenizer) -> TokenBytes:
    """Of any other vocabulary: what its decoder writes for a token alone, and after another one."""
    core, size = tokenizer.core, tokenizer.vocab_size
    spelled = {n: _BYTE.fullmatch(tokenizer.token(n) or "") for n in range(size)} if _falls_back(tokenizer) else {}
    single = {n: bytes([int(match[1], 16)]) for n, match in spelled.items() if match}
    usable = [n for n in range(size) if n not in tokenizer.special_ids and n not in single and tokenizer.token(n) is not None]
    alone = dict(zip(usable, core.decode_batch([[n] for n in usable])))
    anchor = next((n for n in usable if alone[n].isascii() and alone[n].isalpha()), None)
    if anchor is None:
        raise ValueError("constrained output: the vocabulary has no token of letters, so what its tokens write cannot be told")
    before = alone[anchor]
    after = dict(zip(usable, core.decode_batch([[anchor, n] for n in usable])))
    first, later = [b""] * size, [b""] * size
    for n in usable:
        if not after[n].startswith(before):
            raise _unclear(tokenizer, n)
        first[n], later[n] = alone[n].encode(), after[n][len(before) :].encode()
    for n, byte in single.items():
        first[n] = later[n] = byte
    known = TokenBytes(tuple(first), tuple(later))
    _check(tokenizer, known, usable)
    return known


def _check(tokenizer: Tokenizer, known: TokenBytes, usable: list[int]) -> None:
    """Refuse a decoder under which a token's text depends on its neighbours, on a sample of triples."""
    step = max(1, len(usable) // 200)
    some = usable[::step]
    triples = [[a, b, c] for a, b, c in zip(some, some[len(some) // 3 :] + some, some[2 * len(some) // 3 :] + some)]
    for ids, text in zip(triples, tokenizer.core.decode_batch(triples)):
        if known.text(ids) != text.encode():
            raise _unclear(tokenizer, ids[1])


def _unclear(tokenizer: Tokenizer, number: int) -> ValueError:
    return ValueError(
        f"constrained output: what the token {tokenizer.token(number)!r} writes depends on its neighbours in this tokenizer; "
        "use a model whose tokens each stand for a text of their own (bytes, characters, byte-level BPE, SentencePiece, words)"
    )


def _falls_back(tokenizer: Tokenizer) -> bool:
    """Whether the decoder takes `<0xE6>` for a byte."""
    decoder = json.loads(tokenizer.core.to_str())["decoder"] or {}
    return any(step.get("type") == "ByteFallback" for step in decoder.get("decoders", [decoder]))


def token_text(tokenizer: Tokenizer, number: int) -> str:
    r"""A token for a reader: the text that it adds, bytes that are no whole character as \xe6, a special token by its name."""
    if number in tokenizer.special_ids:
        return tokenizer.token(number) or ""
    try:
        text = token_bytes(tokenizer).later[number]
    except ValueError:
        text = (tokenizer.token(number) or "").encode()
    return text.decode(errors="backslashreplace")
