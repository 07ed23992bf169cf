"""BERT: bare, with its masked-language head, with both heads it was trained with, and with a task's."""

from __future__ import annotations

from typing import Any

from genus.export.families.config import WRITTEN, Config
from genus.export.families.family import Family, dropouts
from genus.export.families.form import Form, answers, sequence, tokens, vectors
from genus.export.rules import Rule, pair, same
from genus.parts.attention import Attention
from genus.parts.head import Head
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.positions import LearnedPositions
from genus.parts.task_head import Pool
from genus.recipes import Recipe, make

B, OURS = "encoder.layer.{}.", "stack.layers.{}."
RATE = ("classifier_dropout", "hidden_dropout_prob")


def sizes(c: Config) -> dict[str, Any]:
    """Arguments that BERT's and its descendants' recipes share."""
    return {
        "dim": c["hidden_size"],
        "depth": c["num_hidden_layers"],
        "heads": c["num_attention_heads"],
        "vocab": c["vocab_size"],
        "context": c["max_position_embeddings"],
        "hidden": c["intermediate_size"],
        "types": c.get("type_vocab_size", 2),
        "act": c.activation("hidden_act", "gelu"),
        "eps": c.get("layer_norm_eps", 1e-12),
        "sentences": c["architectures"][0].endswith("ForPreTraining"),
    }


def with_dropouts(recipe: Recipe, c: Config, default: float = 0.1) -> Recipe:
    """The recipe with the file's rates."""
    hidden = c.get("hidden_dropout_prob", default)
    rates = (hidden, c.get("attention_probs_dropout_prob", default), hidden)
    return recipe.replace(model=dropouts(recipe.model, *rates))


def encoder_parts(model: Model) -> tuple[Attention, MLP, LearnedPositions] | None:
    """The two sublayers and the positions of an encoder; None when it has others."""
    block = model.stack.blocks[0]
    match block.parts, model.embed.positions:
        case (Attention() as attention, MLP() as mlp), LearnedPositions() as positions if block.norm is not None:
            return attention, mlp, positions
    return None


def encoder_config(model: Model) -> dict[str, Any] | None:
    """Keys that BERT's and its descendants' files share."""
    parts, norm = encoder_parts(model), model.stack.blocks[0].norm
    if parts is None or norm is None or model.encoder is not None:
        return None
    attention, mlp, positions = parts
    return {
        "vocab_size": model.embed.vocab,
        "hidden_size": model.dim,
        "num_hidden_layers": model.stack.depth,
        "num_attention_heads": attention.heads,
        "intermediate_size": mlp.inner(model.dim),
        "hidden_act": "gelu_new" if mlp.act == "gelu_tanh" else WRITTEN.get(mlp.act),
        "max_position_embeddings": positions.length,
        "type_vocab_size": model.embed.types,
        "layer_norm_eps": norm.eps,
        "hidden_dropout_prob": model.stack.blocks[0].dropout,
        "attention_probs_dropout_prob": attention.dropout,
        "tie_word_embeddings": model.head.tied,
    }


def masked(config: Config, head: Any) -> Head:
    """The head of masked language modelling, and of two texts where the recipe has it.

    Raises:
        ValueError: its weight is not the token table; transformers then keeps two biases, of which it adds one.
    """
    if not config.get("tie_word_embeddings", True):
        raise ValueError(f"config.json: {config['model_type']} with tie_word_embeddings=False is not supported")
    assert isinstance(head, Head)
    return head


def attention(theirs: str, ours: str, names: tuple[str, str, str, str]) -> list[Rule]:
    """Queries, keys, values and output of a layer."""
    return [rule for name, x in zip(names, "qkvo", strict=True) for rule in pair(f"{theirs}.{name}", f"{ours}.{x}_proj")]


EMBEDDINGS = (
    same("embeddings.word_embeddings.weight", "embed.tokens.weight"),
    same("embeddings.position_embeddings.weight", "embed.positions.weight"),
    same("embeddings.token_type_embeddings.weight", "embed.types.weight"),
    *pair("embeddings.LayerNorm", "embed.norm"),
)
RULES = (
    *EMBEDDINGS,
    *attention(B + "attention", OURS + "parts.0", ("self.query", "self.key", "self.value", "output.dense")),
    *pair(B + "attention.output.LayerNorm", OURS + "norms.0"),
    *pair(B + "intermediate.dense", OURS + "parts.1.up_proj"),
    *pair(B + "output.dense", OURS + "parts.1.down_proj"),
    *pair(B + "output.LayerNorm", OURS + "norms.1"),
)
_MASKED = (
    *pair("cls.predictions.transform.dense", "head.transform.proj"),
    *pair("cls.predictions.transform.LayerNorm", "head.transform.norm"),
    same("cls.predictions.decoder.weight", "head.weight"),
    same("cls.predictions.bias", "head.bias"),
    same("cls.predictions.decoder.bias", "head.bias", read_only=True),
)
_PAIRED = (*pair("bert.pooler.dense", "head.task.pool.proj"), *pair("cls.seq_relationship", "head.task.proj"))

BERT = Family(
    "bert",
    "Bert",
    lambda c: with_dropouts(make("bert", **sizes(c)), c),
    lambda model, context: encoder_config(model) if model.embed.types else None,
    RULES,
    (
        Form("ForMaskedLM", _MASKED, masked, ignore=(r"cls\.seq_relationship\..*",)),
        Form("ForPreTraining", (*_MASKED, *_PAIRED), masked, named="ForMaskedLM", needs=tuple(r.theirs for r in _PAIRED)),
        *vectors("pooler.dense"),
        sequence("classifier", Pool(), "bert.pooler.dense", dropout=RATE),
        tokens("classifier", RATE),
        answers(),
    ),
    prefix="bert.",
    # the layer over the first vector, where a class does not use it
    ignore=(r"embeddings\.position_ids", r"pooler\..*"),
    renames=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
    only={"position_embedding_type": ("absolute",), "is_decoder": (False,), "add_cross_attention": (False,)},
)

FAMILIES = (BERT,)
