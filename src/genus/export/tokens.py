"""The tokenizer of a model folder, and the ids of special tokens that config.json repeats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer as Core
from tokenizers import normalizers

from genus.export import sentences
from genus.parts.model import Model
from genus.parts.task_head import TaskHead

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer


# What tokenizer_config.json may say of a tokenizer of BERT's kind, and what tokenizer.json calls it.
SPELLING = {"do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}
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
    tokenizer = _spelling(tokenizer, sentences.lower_case(folder))
    told = {token: config.get(key) for token, key in LEFT_TO_CONFIG.items() if not tokenizer.config.get(token)}
    spelt = {name: tokenizer.token(number) for name, number in told.items() if isinstance(number, int) and number >= 0}
    return _declaring(tokenizer, {name: token for name, token in spelt.items() if token is not None})


def _spelling(tokenizer: Tokenizer, lower: bool) -> Tokenizer:
    """The same tokenizer with the case and the accents that the folder states beside it.

    tokenizer_config.json has the last word on a tokenizer of BERT's kind, as in transformers. `lower`: all texts in lower case.
    """
    from genus.modalities.text import Tokenizer

    core, told = tokenizer.core, {name: tokenizer.config[key] for key, name in SPELLING.items() if key in tokenizer.config}
    before, after = core.normalizer, core.normalizer
    if isinstance(before, normalizers.BertNormalizer):
        stated = {name: getattr(before, name) for name in ("clean_text", *SPELLING.values())}
        after = normalizers.BertNormalizer(**stated | told) if stated | told != stated else before
    if lower and (after is None or after.normalize_str("A") != "a"):
        after = normalizers.Sequence([normalizers.Lowercase(), *([] if after is None else [after])])
    if after is before:
        return tokenizer
    core = Core.from_str(core.to_str())
    core.normalizer = after
    return Tokenizer(core, tokenizer.config, tokenizer.chat_template)


def _declaring(tokenizer: Tokenizer, told: dict[str, Any]) -> Tokenizer:
    """The same tokenizer, whose config says this too."""
    from genus.modalities.text import Tokenizer

    return Tokenizer(tokenizer.core, tokenizer.config | told, tokenizer.chat_template) if told else tokenizer


def for_model(tokenizer: Tokenizer, spec: Model) -> Tokenizer:
    """The tokenizer as it is written beside a model: it says whether the model wants segment types.

    For a model with the head of a task it has a padding token: its own, else the end of a document, which stands behind no text
    that is to be judged.
    """
    types = ["token_type_ids"] if spec.embed.types else []
    told: dict[str, Any] = {"model_input_names": ["input_ids", *types, "attention_mask"]}
    if isinstance(spec.head, TaskHead) and tokenizer.role("pad") is None:
        told["pad_token"] = tokenizer.token(tokenizer.eos_id)
    return _declaring(tokenizer, told)


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
