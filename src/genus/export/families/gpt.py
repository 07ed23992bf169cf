"""GPT-1, GPT-2, GPT-NeoX, BLOOM."""

from __future__ import annotations

from typing import Any

from genus.export.families.config import WRITTEN, Config
from genus.export.families.family import Family, dropouts, replaced
from genus.export.families.form import Form, answers, sequence, tokens, vectors
from genus.export.families.rope import read_rope, write_rope
from genus.export.rules import pair, qkv, same
from genus.parts.attention import Attention
from genus.parts.head import Head
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.positions import LearnedPositions, Rotary
from genus.parts.task_head import Pool
from genus.parts.wiring import Parallel
from genus.recipes import Recipe, make

H, OURS = "h.{}.", "stack.layers.{}."
MASKS = (r".*\.attn(ention)?\.(bias|masked_bias)",)

_LAYER_1D = [
    *qkv(H + "attn.c_attn", OURS + "parts.0", "stacked_transposed", "stacked"),
    *pair(H + "attn.c_proj", OURS + "parts.0.o_proj", "transposed"),
    *pair(H + "mlp.c_fc", OURS + "parts.1.up_proj", "transposed"),
    *pair(H + "mlp.c_proj", OURS + "parts.1.down_proj", "transposed"),
    *pair(H + "ln_1", OURS + "norms.0"),
    *pair(H + "ln_2", OURS + "norms.1"),
]
_READ_OUT = same("lm_head.weight", "head.weight")
_LAST = sequence("score", Pool("last", dense=False), bias=False)
_TASKS = (_LAST, tokens("classifier", ("classifier_dropout", "hidden_dropout")), answers())


def _attention_and_mlp(model: Model) -> tuple[Attention, MLP] | None:
    """The two sublayers of a plain decoder."""
    match model.stack.blocks[0].parts:
        case (Attention() as attention, MLP() as mlp) if model.encoder is None:
            return attention, mlp
    return None


def _gpt2_recipe(c: Config) -> Recipe:
    recipe = make(
        "gpt2",
        dim=c["n_embd"],
        depth=c["n_layer"],
        heads=c["n_head"],
        vocab=c["vocab_size"],
        context=c["n_positions"],
        hidden=c.get("n_inner"),
        eps=c.get("layer_norm_epsilon", 1e-5),
    )
    recipe = replaced(recipe, MLP, act=c.activation("activation_function", "gelu_new"))
    recipe = replaced(recipe, Head, tied=c.get("tie_word_embeddings", True))
    return recipe.replace(model=_gpt_dropouts(recipe.model, c))


def _gpt_dropouts(model: Any, c: Config) -> Model:
    rates = (c.get(f"{part}_pdrop", 0.1) for part in ("embd", "attn", "resid"))
    return dropouts(model, *rates)


def _gpt_config(model: Model) -> dict[str, Any] | None:
    """What GPT-1 and GPT-2 share."""
    parts, norm = _attention_and_mlp(model), model.stack.blocks[0].norm
    if parts is None or norm is None or not isinstance(model.embed.positions, LearnedPositions):
        return None
    return {
        "vocab_size": model.embed.vocab,
        "n_positions": model.embed.positions.length,
        "n_embd": model.dim,
        "n_layer": model.stack.depth,
        "n_head": parts[0].heads,
        "layer_norm_epsilon": norm.eps,
        "embd_pdrop": model.embed.dropout,
        "attn_pdrop": parts[0].dropout,
        "resid_pdrop": model.stack.blocks[0].dropout,
        "tie_word_embeddings": model.head.tied,
    }


def _gpt2_config(model: Model, context: int) -> dict[str, Any] | None:
    config, parts = _gpt_config(model), _attention_and_mlp(model)
    if config is None or parts is None:
        return None
    act = "gelu_new" if parts[1].act == "gelu_tanh" else WRITTEN.get(parts[1].act)
    return config | {"n_ctx": config["n_positions"], "n_inner": parts[1].inner(model.dim), "activation_function": act}


GPT2 = Family(
    "gpt2",
    "GPT2",
    _gpt2_recipe,
    _gpt2_config,
    (
        same("wte.weight", "embed.tokens.weight"),
        same("wpe.weight", "embed.positions.weight"),
        *_LAYER_1D,
        *pair("ln_f", "stack.final"),
    ),
    (Form("LMHeadModel", (_READ_OUT,), auto="ForCausalLM"), *_TASKS, *vectors()),
    prefix="transformer.",
    ignore=MASKS,
    only={"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,)},
)

# GPT-1's own table of activations: its "gelu" is the tanh approximation.
GPT1_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}


def _gpt1_recipe(c: Config) -> Recipe:
    act = c.get("afn", "gelu")
    if act not in GPT1_ACTIVATIONS:
        raise ValueError(f"config.json: afn {act!r} is not one of {', '.join(GPT1_ACTIVATIONS)}")
    recipe = make(
        "gpt1",
        dim=c["n_embd"],
        depth=c["n_layer"],
        heads=c["n_head"],
        vocab=c["vocab_size"],
        context=c["n_positions"],
        eps=c.get("layer_norm_epsilon", 1e-5),
    )
    recipe = replaced(recipe, MLP, act=GPT1_ACTIVATIONS[act])
    recipe = replaced(recipe, Head, tied=c.get("tie_word_embeddings", True))
    return recipe.replace(model=_gpt_dropouts(recipe.model, c))


def _gpt1_config(model: Model, context: int) -> dict[str, Any] | None:
    config, parts = _gpt_config(model), _attention_and_mlp(model)
    if config is None or parts is None:
        return None
    act = next((theirs for theirs, ours in GPT1_ACTIVATIONS.items() if ours == parts[1].act), None)
    return None if act is None else config | {"afn": act}


GPT1 = Family(
    "openai-gpt",
    "OpenAIGPT",
    _gpt1_recipe,
    _gpt1_config,
    (
        same("tokens_embed.weight", "embed.tokens.weight"),
        same("positions_embed.weight", "embed.positions.weight"),
        *_LAYER_1D,
    ),
    (Form("LMHeadModel", (_READ_OUT,), auto="ForCausalLM"), _LAST, *vectors()),
    prefix="transformer.",
    ignore=(*MASKS, r"position_ids"),
)

N = "layers.{}."


def _neox_recipe(c: Config) -> Recipe:
    theta, share, scaling = read_rope(c, theta=c.get("rotary_emb_base", 10000.0), share=c.get("rotary_pct", 0.25))
    recipe = make(
        "gpt_neox",
        dim=c["hidden_size"],
        depth=c["num_hidden_layers"],
        heads=c["num_attention_heads"],
        vocab=c["vocab_size"],
        context=c.get("max_position_embeddings", 2048),
        hidden=c["intermediate_size"],
        theta=theta,
        share=share,
        eps=c.get("layer_norm_eps", 1e-5),
        act=c.activation("hidden_act", "gelu"),
        parallel=c.get("use_parallel_residual", True),
        tied=c.get("tie_word_embeddings", False),
    )
    if scaling is not None:
        recipe = replaced(recipe, Rotary, scaling=scaling)
    hidden = c.get("hidden_dropout", 0.0)
    return recipe.replace(model=dropouts(recipe.model, hidden, c.get("attention_dropout", 0.0), hidden))  # type: ignore[arg-type]


def _neox_config(model: Model, context: int) -> dict[str, Any] | None:
    parts, block = _attention_and_mlp(model), model.stack.blocks[0]
    if parts is None or block.norm is None or not isinstance(parts[0].position, Rotary):
        return None
    rotary = parts[0].position
    return {
        "vocab_size": model.embed.vocab,
        "hidden_size": model.dim,
        "num_hidden_layers": model.stack.depth,
        "num_attention_heads": parts[0].heads,
        "intermediate_size": parts[1].inner(model.dim),
        "hidden_act": WRITTEN.get(parts[1].act),
        "max_position_embeddings": context,
        "layer_norm_eps": block.norm.eps,
        "use_parallel_residual": isinstance(block.wiring, Parallel),
        "attention_bias": True,
        "attention_dropout": parts[0].dropout,
        "hidden_dropout": block.dropout,
        "tie_word_embeddings": model.head.tied,
        "rotary_pct": rotary.share,
        "rotary_emb_base": rotary.theta,
        **write_rope(rotary, partial=True),
    }


GPT_NEOX = Family(
    "gpt_neox",
    "GPTNeoX",
    _neox_recipe,
    _neox_config,
    (
        same("embed_in.weight", "embed.tokens.weight"),
        *pair("final_layer_norm", "stack.final"),
        *pair(N + "input_layernorm", OURS + "norms.0"),
        *pair(N + "post_attention_layernorm", OURS + "norms.1"),
        *qkv(N + "attention.query_key_value", OURS + "parts.0", "by_head", "by_head"),
        *pair(N + "attention.dense", OURS + "parts.0.o_proj"),
        *pair(N + "mlp.dense_h_to_4h", OURS + "parts.1.up_proj"),
        *pair(N + "mlp.dense_4h_to_h", OURS + "parts.1.down_proj"),
    ),
    (
        Form("ForCausalLM", (same("embed_out.weight", "head.weight"), same("lm_head.weight", "head.weight", read_only=True))),
        _LAST,
        tokens("classifier", ("classifier_dropout",)),
        answers(),
        *vectors(),
    ),
    prefix="gpt_neox.",
    ignore=(*MASKS, r".*rotary_emb\.inv_freq"),
    only={"attention_bias": (True,)},
)


def _bloom_recipe(c: Config) -> Recipe:
    recipe = make(
        "bloom",
        dim=c.get("hidden_size") or c["n_embed"],
        depth=c.get("n_layer") or c["num_hidden_layers"],
        heads=c.get("n_head") or c["num_attention_heads"],
        vocab=c["vocab_size"],
        context=c.get("seq_length", 2048),
        eps=c.get("layer_norm_epsilon", 1e-5),
    )
    recipe = replaced(recipe, Head, tied=c.get("tie_word_embeddings", True))
    hidden = c.get("hidden_dropout", 0.0)
    return recipe.replace(model=dropouts(recipe.model, 0.0, c.get("attention_dropout", 0.0), hidden))  # type: ignore[arg-type]


def _bloom_config(model: Model, context: int) -> dict[str, Any] | None:
    parts, block = _attention_and_mlp(model), model.stack.blocks[0]
    if parts is None or block.norm is None:
        return None
    return {
        "vocab_size": model.embed.vocab,
        "hidden_size": model.dim,
        "n_layer": model.stack.depth,
        "n_head": parts[0].heads,
        "layer_norm_epsilon": block.norm.eps,
        "seq_length": context,
        "attention_dropout": parts[0].dropout,
        "hidden_dropout": block.dropout,
        "tie_word_embeddings": model.head.tied,
    }


BLOOM = Family(
    "bloom",
    "Bloom",
    _bloom_recipe,
    _bloom_config,
    (
        same("word_embeddings.weight", "embed.tokens.weight"),
        *pair("word_embeddings_layernorm", "embed.norm"),
        *pair("ln_f", "stack.final"),
        *pair(H + "input_layernorm", OURS + "norms.0"),
        *pair(H + "post_attention_layernorm", OURS + "norms.1"),
        *qkv(H + "self_attention.query_key_value", OURS + "parts.0", "by_head", "by_head"),
        *pair(H + "self_attention.dense", OURS + "parts.0.o_proj"),
        *pair(H + "mlp.dense_h_to_4h", OURS + "parts.1.up_proj"),
        *pair(H + "mlp.dense_4h_to_h", OURS + "parts.1.down_proj"),
    ),
    (Form("ForCausalLM", (_READ_OUT,)), *_TASKS, *vectors()),
    prefix="transformer.",
    only={"apply_residual_connection_post_layernorm": (False,)},
)

FAMILIES = (GPT2, GPT1, GPT_NEOX, BLOOM)
