"""The tokenizer of a model folder, and the ids of special tokens that config.json repeats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer


def read_tokenizer(folder: Path, start: int | None = None) -> Tokenizer | None:
    """The tokenizer of a folder; None when it has none.

    Args:
        start: the id before a decoder's first token, for a tokenizer that declares no begin-of-document token (T5's).
    """
    from genus.modalities.text import Tokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.load(folder)
    elif (folder / "vocab.txt").is_file():
        from genus.export.word_piece import read_word_piece

        tokenizer = Tokenizer(*read_word_piece(folder / "vocab.txt"))
    else:
        return None
    if start is None or tokenizer.bos_id == start or tokenizer.config.get("bos_token"):
        return tokenizer
    return Tokenizer(tokenizer.core, tokenizer.config | {"bos_token": tokenizer.token(start)}, tokenizer.chat_template)


def with_padding(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with a padding token: its own, else the end of a document, which stands behind no text to be judged."""
    if tokenizer.role("pad") is not None:
        return tokenizer
    from genus.modalities.text import Tokenizer

    config = tokenizer.config | {"pad_token": tokenizer.token(tokenizer.eos_id)}
    return Tokenizer(tokenizer.core, config, tokenizer.chat_template)


def special_ids(config: Mapping[str, Any], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Keys of config.json that repeat what the tokenizer says."""
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None}
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    if tokenizer.role("pad") is not None:
        ids["pad_token_id"] = tokenizer.role("pad")
    if "decoder_start_token_id" in config:
        ids["decoder_start_token_id"] = tokenizer.bos_id
    return ids
