"""BERT with its masked-language head."""

from __future__ import annotations

from typing import Any

from genus.export.families.family import WRITTEN, Config, Family, dropouts, replaced
from genus.export.rules import pair, same
from genus.parts.attention import Attention
from genus.parts.head import Head
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.positions import LearnedPositions
from genus.recipes import Recipe, make

B, OURS = "bert.encoder.layer.{}.", "stack.layers.{}."


def _recipe(c: Config) -> Recipe:
    recipe = make(
        "bert",
        dim=c["hidden_size"],
        depth=c["num_hidden_layers"],
        heads=c["num_attention_heads"],
        vocab=c["vocab_size"],
        context=c["max_position_embeddings"],
        hidden=c["intermediate_size"],
        types=c.get("type_vocab_size", 2),
        act=c.activation("hidden_act", "gelu"),
        eps=c.get("layer_norm_eps", 1e-12),
    )
    recipe = replaced(recipe, Head, tied=c.get("tie_word_embeddings", True))
    hidden = c.get("hidden_dropout_prob", 0.1)
    rates = (hidden, c.get("attention_probs_dropout_prob", 0.1), hidden)
    return recipe.replace(model=dropouts(recipe.model, *rates))  # type: ignore[arg-type]


def _config(model: Model, context: int) -> dict[str, Any] | None:
    block = model.stack.blocks[0]
    match block.parts, model.embed.positions:
        case (Attention() as attention, MLP() as mlp), LearnedPositions() as positions if block.norm is not None:
            pass
        case _:
            return None
    return {
        "vocab_size": model.embed.vocab,
        "hidden_size": model.dim,
        "num_hidden_layers": model.stack.depth,
        "num_attention_heads": attention.heads,
        "intermediate_size": mlp.inner(model.dim),
        "hidden_act": "gelu_new" if mlp.act == "gelu_tanh" else WRITTEN.get(mlp.act),
        "max_position_embeddings": positions.length,
        "type_vocab_size": model.embed.types,
        "layer_norm_eps": block.norm.eps,
        "hidden_dropout_prob": block.dropout,
        "attention_probs_dropout_prob": attention.dropout,
        "tie_word_embeddings": model.head.tied,
    }


BERT = Family(
    "bert",
    "BertForMaskedLM",
    _recipe,
    _config,
    (
        same("bert.embeddings.word_embeddings.weight", "embed.tokens.weight"),
        same("bert.embeddings.position_embeddings.weight", "embed.positions.weight"),
        same("bert.embeddings.token_type_embeddings.weight", "embed.types.weight"),
        *pair("bert.embeddings.LayerNorm", "embed.norm"),
        *(
            rule
            for theirs, ours in (("query", "q"), ("key", "k"), ("value", "v"))
            for rule in pair(f"{B}attention.self.{theirs}", f"{OURS}parts.0.{ours}_proj")
        ),
        *pair(B + "attention.output.dense", OURS + "parts.0.o_proj"),
        *pair(B + "attention.output.LayerNorm", OURS + "norms.0"),
        *pair(B + "intermediate.dense", OURS + "parts.1.up_proj"),
        *pair(B + "output.dense", OURS + "parts.1.down_proj"),
        *pair(B + "output.LayerNorm", OURS + "norms.1"),
        *pair("cls.predictions.transform.dense", "head.transform.proj"),
        *pair("cls.predictions.transform.LayerNorm", "head.transform.norm"),
        same("cls.predictions.decoder.weight", "head.weight"),
        same("cls.predictions.bias", "head.bias"),
        same("cls.predictions.decoder.bias", "head.bias", read_only=True),
    ),
    prefix="bert.",
    # the classifier of the first vector, and next-sentence prediction, are not part of the masked-language model
    ignore=(r"bert\.embeddings\.position_ids", r"bert\.pooler\..*", r"cls\.seq_relationship\..*"),
    renames=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
    only={"position_embedding_type": ("absolute",), "is_decoder": (False,), "add_cross_attention": (False,)},
    auto="AutoModelForMaskedLM",
)

FAMILIES = (BERT,)
