"""DistilBERT: BERT without segment types and without its pooler."""

from __future__ import annotations

from typing import Any

from genus.export.families.bert import attention, encoder_config
from genus.export.families.config import Config
from genus.export.families.family import Family, dropouts, replaced
from genus.export.families.form import Form, answers, sequence, tokens, vectors
from genus.export.rules import pair, same
from genus.parts.head import Head
from genus.parts.model import Model
from genus.parts.task_head import Pool
from genus.recipes import Recipe, make

D, OURS = "transformer.layer.{}.", "stack.layers.{}."
OWN = {  # its names of what BERT has too
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
    "tie_word_embeddings": "tie_word_embeddings",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}


def _recipe(c: Config) -> Recipe:
    recipe = make(
        "distilbert",
        dim=c["dim"],
        depth=c["n_layers"],
        heads=c["n_heads"],
        vocab=c["vocab_size"],
        context=c["max_position_embeddings"],
        hidden=c["hidden_dim"],
        act=c.activation("activation", "gelu"),
    )
    recipe = replaced(recipe, Head, tied=c.get("tie_word_embeddings", True))
    rates = (c.get("dropout", 0.1), c.get("attention_dropout", 0.1), c.get("dropout", 0.1))
    return recipe.replace(model=dropouts(recipe.model, *rates))


def _config(model: Model, context: int) -> dict[str, Any] | None:
    config = encoder_config(model)
    return config and {own: config[key] for key, own in OWN.items()} | {"sinusoidal_pos_embds": False}


DISTILBERT = Family(
    "distilbert",
    "DistilBert",
    _recipe,
    _config,
    (
        same("embeddings.word_embeddings.weight", "embed.tokens.weight"),
        same("embeddings.position_embeddings.weight", "embed.positions.weight"),
        *pair("embeddings.LayerNorm", "embed.norm"),
        *attention(D + "attention", OURS + "parts.0", ("q_lin", "k_lin", "v_lin", "out_lin")),
        *pair(D + "sa_layer_norm", OURS + "norms.0"),
        *pair(D + "ffn.lin1", OURS + "parts.1.up_proj"),
        *pair(D + "ffn.lin2", OURS + "parts.1.down_proj"),
        *pair(D + "output_layer_norm", OURS + "norms.1"),
    ),
    (
        Form(
            "ForMaskedLM",
            (
                *pair("vocab_transform", "head.transform.proj"),
                *pair("vocab_layer_norm", "head.transform.norm"),
                same("vocab_projector.weight", "head.weight"),
                same("vocab_projector.bias", "head.bias"),
            ),
        ),
        *vectors(),
        sequence("classifier", Pool(act="relu"), "pre_classifier", dropout=("seq_classif_dropout",)),
        tokens("classifier", ("dropout",)),
        answers(("qa_dropout",)),
    ),
    prefix="distilbert.",
    ignore=(r"embeddings\.position_ids",),
)

FAMILIES = (DISTILBERT,)
