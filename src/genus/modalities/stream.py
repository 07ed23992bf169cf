"""Ids to text as they come: what `Tokenizer.decode` gives for all of them, in pieces that are certain."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

from genus.modalities.byte_bpe import byte_alphabet

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer


class Stream:
    """Incremental decoding: the pieces returned by `push` and `finish`, joined, are `Tokenizer.decode` of the ids pushed.

    A character whose bytes are spread over several tokens (most Chinese characters under a small BPE) is held back until its last
    byte has come.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace") if tokenizer.byte_level else None
        self._ids: list[int] = []
        self._done = 0  # ids whose text was given out
        self._context = 0  # first id that the text of later ids may depend on

    def push(self, number: int) -> str:
        """Take one id; return the text that is now certain (often one token's, sometimes none)."""
        number = int(number)
        if number in self._tokenizer.special_ids:
            return ""
        if self._bytes is not None:
            return self._bytes.decode(bytes_of(self._tokenizer.token(number) or ""))
        self._ids.append(number)
        return self._advance(final=False)

    def finish(self) -> str:
        """The text still held back; an unfinished character comes out as U+FFFD."""
        if self._bytes is not None:
            return self._bytes.decode(b"", final=True)
        return self._advance(final=True)

    def _advance(self, final: bool) -> str:
        # Decoders may treat the first token of a text specially (a leading space), so new text is read off
        # as the difference between decoding a few ids with and without the new ones.
        before = self._tokenizer.decode(self._ids[self._context : self._done])
        after = self._tokenizer.decode(self._ids[self._context :])
        if not final and after.endswith("\ufffd"):
            return ""
        self._context, self._done = self._done, len(self._ids)
        return after[len(before) :]


def is_byte_level(decoder: Any) -> bool:
    """Whether a decoder of `tokenizers` reads GPT-2's alphabet of bytes."""
    return decoder is not None and json.loads(decoder.__getstate__())["type"] == "ByteLevel"


_BYTE_OF = byte_alphabet()


def bytes_of(token: str) -> bytes:
    """The bytes that an entry of a byte-level vocabulary spells."""
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:  # an added token, spelt as itself
        return token.encode()
