"""T5 and T5 v1.1, whole or their encoder alone."""

from __future__ import annotations

from typing import Any

import torch

from genus.export.families.config import Config
from genus.export.families.family import Family, dropouts, replaced
from genus.export.families.form import Form, answers, sequence, tokens, vectors
from genus.export.rules import Rule, pair, same
from genus.export.weights import Weights
from genus.parts.attention import Attention
from genus.parts.head import Head
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.positions import RelativeBias
from genus.parts.task_head import Pool
from genus.recipes import Recipe, make

# "gated-gelu" is the tanh approximation, for compatibility with the first checkpoints; plain "gelu" is not.
PROJECTIONS = {
    "relu": (False, "relu"),
    "gated-gelu": (True, "gelu_tanh"),
    "gated-silu": (True, "silu"),
    "gated-relu": (True, "relu"),
    "gelu": (False, "gelu"),
    "silu": (False, "silu"),
}
NAMES = {"gated-gelu": "t5-v1-1", "gated-silu": "ul2"}
"""The recipes that have these; all others are T5's."""


def _recipe(c: Config) -> Recipe:
    projection = c.get("feed_forward_proj", "relu")
    if projection not in PROJECTIONS:
        raise ValueError(f"config.json: feed_forward_proj {projection!r} is not one of {', '.join(PROJECTIONS)}")
    gated, act = PROJECTIONS[projection]
    encoder_depth = c["num_layers"]
    tied = c.get("tie_word_embeddings", True)
    recipe = make(
        "t5",
        dim=c["d_model"],
        depth=c.get("num_decoder_layers") or encoder_depth,
        encoder_depth=encoder_depth,
        heads=c["num_heads"],
        head_dim=c["d_kv"],
        hidden=c["d_ff"],
        vocab=c["vocab_size"],
        context=c.get("n_positions", 512),
        buckets=c.get("relative_attention_num_buckets", 32),
        max_distance=c.get("relative_attention_max_distance", 128),
        eps=c.get("layer_norm_epsilon", 1e-6),
        gated=gated,
        tied=tied,
    )
    scale = c["d_model"] ** -0.5 if c.get("scale_decoder_outputs", tied is not False) else 1.0
    recipe = replaced(replaced(recipe, MLP, act=act), Head, scale=scale).replace(name=NAMES.get(projection, "t5"))
    return recipe.replace(model=dropouts(recipe.model, *[c.get("dropout_rate", 0.1)] * 3))  # type: ignore[arg-type]


def _config(model: Model, context: int) -> dict[str, Any] | None:
    match model.stack.blocks[0].parts:
        case (Attention(), Attention(), MLP()) if model.encoder is not None:
            pass
        case _:
            return None
    config = _stack_config(model, context)
    return config and config | {
        "num_layers": model.encoder.depth,
        "is_encoder_decoder": True,
        "decoder_start_token_id": 0,
        "tie_word_embeddings": model.head.tied,
        "scale_decoder_outputs": model.head.scale != 1.0,
    }


def _stack_config(model: Model, context: int) -> dict[str, Any] | None:
    """What both stacks have in common."""
    block = model.stack.blocks[0]
    match block.parts:
        case (Attention(position=RelativeBias() as position) as attention, *_, MLP() as mlp) if block.norm is not None:
            pass
        case _:
            return None
    projection = next((k for k, v in PROJECTIONS.items() if v == (mlp.gated, mlp.act)), None)
    if projection is None:
        return None
    return {
        "vocab_size": model.embed.vocab,
        "d_model": model.dim,
        "d_kv": attention.head_dim or model.dim // attention.heads,
        "d_ff": mlp.inner(model.dim),
        "num_layers": model.stack.depth,
        "num_decoder_layers": model.stack.depth,
        "num_heads": attention.heads,
        "n_positions": context,
        "relative_attention_num_buckets": position.buckets,
        "relative_attention_max_distance": position.max_distance,
        "dropout_rate": block.dropout,
        "layer_norm_epsilon": block.norm.eps,
        "feed_forward_proj": projection,
    }


def _encoder_recipe(c: Config) -> Recipe:
    recipe = _recipe(c)
    return recipe.replace(model=recipe.model.replace(stack=recipe.model.encoder, encoder=None))


def _encoder_config(model: Model, context: int) -> dict[str, Any] | None:
    config = None if model.encoder is not None else _stack_config(model, context)
    return config and config | {"is_encoder_decoder": False, "use_cache": False, "tie_word_embeddings": True}


def _settle(config: Config, weights: Weights) -> Config:
    """transformers 5 writes `tie_word_embeddings: true` for every T5; the weights tell whether the read-out is its own."""
    scale = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True) is not False)
    own = "lm_head.weight" in weights and not (
        "shared.weight" in weights and torch.equal(weights.tensor("lm_head.weight"), weights.tensor("shared.weight"))
    )
    return Config(config | {"tie_word_embeddings": not own, "scale_decoder_outputs": scale})


def _side(theirs: str, ours: str, attentions: tuple[str, ...]) -> list[Rule]:
    """One of the two stacks."""
    t, o = theirs + ".block.{}.layer.", ours + ".layers.{}."
    rules = [
        same(f"{theirs}.final_layer_norm.weight", f"{ours}.final.weight"),
        same(f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", f"{ours}.relative_bias.weight"),
        same(f"{theirs}.embed_tokens.weight", "embed.tokens.weight", read_only=True),
    ]
    for i, name in enumerate(attentions):
        rules += [same(f"{t}{i}.{name}.{x}.weight", f"{o}parts.{i}.{x}_proj.weight") for x in "qkvo"]
    last = len(attentions)
    rules += [same(f"{t}{i}.layer_norm.weight", f"{o}norms.{i}.weight") for i in range(last + 1)]
    return [*rules, *pair(f"{t}{last}.DenseReluDense.wo", f"{o}parts.{last}.down_proj")]


def _gate(theirs: str, ours: str, gated: bool) -> list[Rule]:
    """The gate is `wi_0` and the other branch `wi_1`; without a gate there is only `wi`."""
    if gated:
        return [
            same(f"{theirs}.wi_0.weight", f"{ours}.gate_proj.weight"),
            same(f"{theirs}.wi_1.weight", f"{ours}.up_proj.weight"),
        ]
    return [same(f"{theirs}.wi.weight", f"{ours}.up_proj.weight")]


def _projections(gated: bool) -> tuple[str, ...]:
    return tuple(k for k, v in PROJECTIONS.items() if v[0] == gated)


RATE = ("classifier_dropout",)
SHARED = same("shared.weight", "embed.tokens.weight")


def _family(gated: bool) -> Family:
    """T5 with a plain, and v1.1 with a gated feed-forward layer: their tensors have different names."""
    return Family(
        "t5",
        "T5",
        _recipe,
        _config,
        (
            SHARED,
            *_side("encoder", "encoder", ("SelfAttention",)),
            *_gate("encoder.block.{}.layer.1.DenseReluDense", "encoder.layers.{}.parts.1", gated),
            *_side("decoder", "stack", ("SelfAttention", "EncDecAttention")),
            *_gate("decoder.block.{}.layer.2.DenseReluDense", "stack.layers.{}.parts.2", gated),
        ),
        (
            Form("ForConditionalGeneration", (same("lm_head.weight", "head.weight"),), auto="ForSeq2SeqLM"),
            # the decoder reads the text again, one place behind the encoder; its last vector sums it up
            sequence(
                "classification_head.out_proj",
                Pool("last"),
                "classification_head.dense",
                dropout=RATE,
                before=RATE,
                prefix="transformer.",
            ),
            answers(),
            *vectors(),
        ),
        # a table that the first checkpoints carry and no layer reads
        ignore=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
        only={"feed_forward_proj": _projections(gated)},
        settle=_settle,
    )


def _encoder_family(gated: bool) -> Family:
    """The encoder alone."""
    return Family(
        "t5",
        "T5",
        _encoder_recipe,
        _encoder_config,
        (
            SHARED,
            *_side("encoder", "stack", ("SelfAttention",)),
            *_gate("encoder.block.{}.layer.1.DenseReluDense", "stack.layers.{}.parts.1", gated),
        ),
        (
            *vectors(suffix="EncoderModel", auto="ForTextEncoding"),
            tokens("classifier", RATE, prefix="transformer."),
        ),
        only={"feed_forward_proj": _projections(gated)},
        settle=_settle,
    )


FAMILIES = tuple(family(gated) for family in (_family, _encoder_family) for gated in (False, True))
