"""What the entries of a vocabulary are: the bytes each stands for, and of what kind they are."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from genus.modalities.stream import bytes_of

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""A Chinese character."""

KINDS = ("special", "part of a character", "space", "Chinese", "letters", "digits", "marks")
"""Kinds of entries, as `kind` tells them. "part of a character": bytes that are no text by themselves."""


def spelt(tokenizer: Tokenizer, number: int) -> bytes | None:
    """The bytes that an id stands for; None for special tokens and ids that mean nothing. A SentencePiece space is a space."""
    token = tokenizer.token(number)
    if token is None or number in tokenizer.special_ids:
        return None
    if tokenizer.byte_level:
        return bytes_of(token)
    if found := _BYTE.fullmatch(token):
        return bytes([int(found[1], 16)])
    return token.replace("\u2581", " ").encode()


def kind(spelling: bytes | None) -> str:
    """Which of KINDS an entry is, from what `spelt` says of it."""
    if spelling is None:
        return "special"
    try:
        text = spelling.decode()
    except UnicodeDecodeError:
        return "part of a character"
    if not text.strip():
        return "space"
    if HAN.search(text):
        return "Chinese"
    classes = {unicodedata.category(character)[0] for character in text}
    return "letters" if "L" in classes else "digits" if "N" in classes else "marks"


def kinds(tokenizer: Tokenizer) -> list[str]:
    """The kind of every id below `vocab_size`."""
    return [kind(spelt(tokenizer, number)) for number in range(tokenizer.vocab_size)]


def lossless(tokenizer: Tokenizer) -> bool:
    """Whether every text can be had back from its ids: all 256 bytes are entries, and nothing rewrites the text before."""
    found = (spelt(tokenizer, number) for number in range(tokenizer.vocab_size))
    singles = {spelling for spelling in found if spelling is not None and len(spelling) == 1}
    return len(singles) == 256 and tokenizer.core.normalizer is None
