"""The evaluated documents: their stored tokens, their text, and the tokens another tokenizer makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from genus.modalities.text import Tokenizer
from genus.prepare.dataset import Dataset, Split

CHARACTERS = 2**20  # of text encoded at once


@dataclass
class Documents:
    """Documents of one split.

    Attributes:
        numbers: which ones, ascending. words, characters, chinese: filled by `count`; words are what white space separates,
            chinese is how many of the characters are Chinese.
    """

    data: Dataset
    split: Split
    numbers: np.ndarray
    words: int = 0
    characters: int = 0
    chinese: int = 0
    changed: int = field(default=0)

    @classmethod
    def choose(cls, data: Dataset, split: str, count: int | None) -> Documents:
        """All documents of a split, or `count` of them evenly spaced."""
        held = data.split(split)
        if count is not None and count < 1:
            raise ValueError(f"--documents must be at least 1, not {count}")
        if count is None or count >= held.documents:
            return cls(data, held, np.arange(held.documents))
        return cls(data, held, np.linspace(0, held.documents, count, endpoint=False).astype(np.int64))

    @property
    def bytes(self) -> np.ndarray:
        """UTF-8 bytes of each document's original text."""
        return self.split.document_bytes[self.numbers]

    @property
    def lengths(self) -> np.ndarray:
        """Stored tokens of each document, end tokens included."""
        return np.diff(self.split.ends, prepend=0)[self.numbers]

    def tokens(self) -> Iterator[np.ndarray]:
        """Stored tokens, end token included."""
        for number in self.numbers:
            yield self.split.document(int(number))

    def texts(self) -> Iterator[str]:
        """Text of each document. A word tokenizer writes <unk> for what it did not know."""
        tokenizer = self.data.tokenizer
        lossy = tokenizer.kind == "words"
        for tokens in self.tokens():
            yield tokenizer.decode(tokens[:-1].tolist(), special=lossy)

    def count(self) -> None:
        """Count words and characters."""
        self.words = self.characters = self.chinese = 0
        for text in self.texts():
            self.words += len(text.split())
            self.characters += len(text)
            self.chinese += sum("一" <= c <= "鿿" for c in text)

    def encoded(self, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
        """The documents in another tokenizer's tokens. `changed` counts texts that came back different."""
        self.changed = 0
        batch: list[str] = []
        size = 0
        for text, number in zip(self.texts(), self.numbers, strict=True):
            self.changed += len(text.encode()) != self.split.document_bytes[number]
            batch.append(text)
            size += len(text)
            if size >= CHARACTERS:
                yield from _encode(tokenizer, batch)
                batch, size = [], 0
        yield from _encode(tokenizer, batch)


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Iterator[np.ndarray]:
    if texts:
        ids, lengths = tokenizer.encode_documents(texts)
        yield from np.split(ids, np.cumsum(lengths)[:-1])
