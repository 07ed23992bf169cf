"""BERT's first files hold a `vocab.txt` and no tokenizer.json: the same tokenizer, built from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def read_word_piece(vocabulary: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of a `vocab.txt` (one token a line, the line's number its id) and its tokenizer_config.json.

    What the config does not say is as in the first English BERT: lower case, no accents, Chinese characters apart
    (Devlin et al. 2019).

    Raises:
        ValueError: a special token is not in the vocabulary.
    """
    beside = vocabulary.with_name("tokenizer_config.json")
    config: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    config = SPECIAL | {k: v["content"] if isinstance(v, dict) else v for k, v in config.items() if v is not None}
    lines = vocabulary.read_text(encoding="utf-8").splitlines()
    ids = {line.rstrip("\n"): i for i, line in enumerate(lines)}
    lacking = [config[name] for name in SPECIAL if config[name] not in ids]
    if lacking:
        raise ValueError(f"{vocabulary} has no {', '.join(lacking)}; is it the vocabulary of a WordPiece tokenizer?")
    core = Tokenizer(models.WordPiece(ids, unk_token=config["unk_token"]))
    core.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    cls, sep = config["cls_token"], config["sep_token"]
    core.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )
    core.add_special_tokens([AddedToken(config[name], normalized=False, special=True) for name in SPECIAL])
    return core, config
