"""How the tokens of a vocabulary are spelled, for models that read a token's bytes."""

from __future__ import annotations

import json

from torch import nn

from genus.modalities.byte_bpe import byte_alphabet
from genus.modalities.text import Tokenizer
from genus.parts.char_cnn import CharCNN


def spellings(tokenizer: Tokenizer) -> list[bytes | None]:
    """The bytes of every id below `vocab_size`; None for special tokens and for ids that mean nothing.

    Marks that a vocabulary writes into its tokens (WordPiece's ##, SentencePiece's ▁) stay: they say where a word begins.
    """
    letters = byte_alphabet() if tokenizer.kind == "bytes" or _byte_level(tokenizer) else None
    found: list[bytes | None] = []
    for number in range(tokenizer.vocab_size):
        token = None if number in tokenizer.special_ids else tokenizer.token(number)
        if token is None:
            found.append(None)
        elif letters is not None and all(c in letters for c in token):
            found.append(bytes(letters[c] for c in token))
        else:
            found.append(token.encode())
    return found


def spell(model: nn.Module, tokenizer: Tokenizer) -> None:
    """Tell a model how its tokens are spelled, where it asks."""
    readers = [module for module in model.modules() if isinstance(module, CharCNN.Module)]
    if readers:
        names = spellings(tokenizer)
        for reader in readers:
            reader.spell(names)


def _byte_level(tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary is spelled in GPT-2's alphabet of bytes."""
    decoder = json.loads(tokenizer.core.to_str())["decoder"] or {}
    return any(step.get("type") == "ByteLevel" for step in decoder.get("decoders", [decoder]))
