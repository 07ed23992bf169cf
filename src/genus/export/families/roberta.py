"""RoBERTa: BERT without next sentences, its positions counted from behind the padding token's id."""

from __future__ import annotations

from typing import Any

from genus.export.families.bert import BERT, RATE, RULES, encoder_config, encoder_parts, masked, sizes, with_dropouts
from genus.export.families.config import Config
from genus.export.families.family import Family
from genus.export.families.form import Form, answers, sequence, tokens, vectors
from genus.export.rules import pair, same
from genus.parts.model import Model
from genus.parts.task_head import Pool
from genus.recipes import Recipe, make


def _recipe(c: Config) -> Recipe:
    pad = c.get("pad_token_id", 1)
    if pad is None:
        raise ValueError("config.json: roberta needs a pad_token_id, behind which its positions begin")
    return with_dropouts(make("roberta", **sizes(c) | {"context": c["max_position_embeddings"] - pad - 1, "pad": pad}), c)


def _config(model: Model, context: int) -> dict[str, Any] | None:
    config, parts = encoder_config(model), encoder_parts(model)
    if config is None or parts is None or not model.embed.types or parts[2].offset < 1:
        return None
    positions = parts[2]
    return config | {
        "max_position_embeddings": positions.length + positions.offset,
        "pad_token_id": positions.offset - 1,
    }


ROBERTA = Family(
    "roberta",
    "Roberta",
    _recipe,
    _config,
    RULES,
    (
        Form(
            "ForMaskedLM",
            (
                *pair("lm_head.dense", "head.transform.proj"),
                *pair("lm_head.layer_norm", "head.transform.norm"),
                same("lm_head.decoder.weight", "head.weight"),
                same("lm_head.bias", "head.bias"),
                same("lm_head.decoder.bias", "head.bias", read_only=True),
            ),
            masked,
        ),
        *vectors("pooler.dense"),
        sequence("classifier.out_proj", Pool(), "classifier.dense", dropout=RATE, before=RATE),
        tokens("classifier", RATE),
        answers(),
    ),
    prefix="roberta.",
    ignore=BERT.ignore,
    renames=BERT.renames,
    only=BERT.only,
)

FAMILIES = (ROBERTA,)
