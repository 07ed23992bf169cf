"""ALBERT: a narrow token table, and one layer for the whole depth."""

from __future__ import annotations

from typing import Any

from genus.export.families.bert import EMBEDDINGS, attention, encoder_config, masked, sizes, with_dropouts
from genus.export.families.config import Config
from genus.export.families.family import Family
from genus.export.families.form import Form, answers, sequence, tokens, vectors
from genus.export.rules import pair, same
from genus.parts.model import Model
from genus.parts.task_head import Pool
from genus.recipes import Recipe, make

A, OURS = "encoder.albert_layer_groups.0.albert_layers.{}.", "stack.layers.{}."
RATE = ("classifier_dropout_prob",)


def _recipe(c: Config) -> Recipe:
    group = c.get("inner_group_num", 1)
    recipe = make("albert", **sizes(c) | {"act": c.activation("hidden_act", "gelu_new"), "embedding": c["embedding_size"]})
    stack = recipe.model.stack
    stack = stack.replace(blocks=stack.blocks * group, depth=stack.depth * group)
    return with_dropouts(recipe.replace(model=recipe.model.replace(stack=stack)), c, default=0.0)


def _config(model: Model, context: int) -> dict[str, Any] | None:
    config, group = encoder_config(model), len(model.stack.blocks)
    if config is None or not model.embed.types or model.embed.dim is None or model.stack.depth % group:
        return None
    return config | {
        "embedding_size": model.embed.dim,
        "num_hidden_layers": model.stack.depth // group,
        "num_hidden_groups": 1,
        "inner_group_num": group,
    }


_MASKED = (
    *pair("predictions.dense", "head.transform.proj"),
    *pair("predictions.LayerNorm", "head.transform.norm"),
    same("predictions.decoder.weight", "head.weight"),
    same("predictions.bias", "head.bias"),
    same("predictions.decoder.bias", "head.bias", read_only=True),
)
_PAIRED = (*pair("albert.pooler", "head.task.pool.proj"), *pair("sop_classifier.classifier", "head.task.proj"))

ALBERT = Family(
    "albert",
    "Albert",
    _recipe,
    _config,
    (
        *EMBEDDINGS,
        *pair("encoder.embedding_hidden_mapping_in", "embed.projection"),
        *attention(A + "attention", OURS + "parts.0", ("query", "key", "value", "dense")),
        *pair(A + "attention.LayerNorm", OURS + "norms.0"),
        *pair(A + "ffn", OURS + "parts.1.up_proj"),
        *pair(A + "ffn_output", OURS + "parts.1.down_proj"),
        *pair(A + "full_layer_layer_norm", OURS + "norms.1"),
    ),
    (
        Form("ForMaskedLM", _MASKED, masked, ignore=(r"sop_classifier\..*",)),
        Form("ForPreTraining", (*_MASKED, *_PAIRED), masked, named="ForMaskedLM", needs=tuple(r.theirs for r in _PAIRED)),
        *vectors("pooler"),
        sequence("classifier", Pool(), "albert.pooler", dropout=RATE),
        tokens("classifier", (*RATE, "hidden_dropout_prob")),
        answers(),
    ),
    prefix="albert.",
    ignore=(r"embeddings\.position_ids", r"pooler\..*"),
    only={"num_hidden_groups": (1,), "position_embedding_type": ("absolute",)},
)

FAMILIES = (ALBERT,)
