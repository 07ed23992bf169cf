"""The tokenizer of a model folder, and the ids of special tokens that config.json repeats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer


# What a tokenizer may leave to config.json: the id before a decoder's first token (T5's), and the one that fills up rows.
LEFT_TO_CONFIG = {"bos_token": "decoder_start_token_id", "pad_token": "pad_token_id"}


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of a model folder with this config.json; None when it has none."""
    from genus.modalities.text import Tokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.load(folder)
    elif (folder / "vocab.txt").is_file():
        from genus.export.word_piece import read_word_piece

        tokenizer = Tokenizer(*read_word_piece(folder / "vocab.txt"))
    else:
        return None
    told = {token: config.get(key) for token, key in LEFT_TO_CONFIG.items() if not tokenizer.config.get(token)}
    spelt = {name: tokenizer.token(number) for name, number in told.items() if isinstance(number, int) and number >= 0}
    return _declaring(tokenizer, {name: token for name, token in spelt.items() if token is not None})


def _declaring(tokenizer: Tokenizer, tokens: dict[str, str]) -> Tokenizer:
    """The same tokenizer, whose config names these special tokens."""
    from genus.modalities.text import Tokenizer

    return Tokenizer(tokenizer.core, tokenizer.config | tokens, tokenizer.chat_template) if tokens else tokenizer


def with_padding(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with a padding token: its own, else the end of a document, which stands behind no text to be judged."""
    if tokenizer.role("pad") is not None:
        return tokenizer
    return _declaring(tokenizer, {"pad_token": str(tokenizer.token(tokenizer.eos_id))})


def special_ids(config: Mapping[str, Any], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Keys of config.json that repeat what the tokenizer says."""
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None}
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    pad = tokenizer.role("pad")
    if pad is not None:
        ids["pad_token_id"] = pad
    if "decoder_start_token_id" in config:
        ids["decoder_start_token_id"] = tokenizer.bos_id
    return ids
