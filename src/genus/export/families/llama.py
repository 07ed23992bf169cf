"""LLaMA and its kin: Mistral, Qwen3, OLMo 2, Gemma 2, Mixtral."""

from __future__ import annotations

from typing import Any

from genus.export.families.config import WRITTEN, Config
from genus.export.families.family import Family, replaced
from genus.export.families.form import Form, answers, sequence, tokens, vectors
from genus.export.families.rope import read_rope, write_rope
from genus.export.rules import Rule, pair, same
from genus.parts.attention import Attention
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.moe import MoE
from genus.parts.positions import Rotary
from genus.parts.task_head import Pool
from genus.recipes import Recipe, make

L, OURS = "layers.{}.", "stack.layers.{}."
TABLES = (r".*rotary_emb\.inv_freq",)

_ENDS = [
    same("embed_tokens.weight", "embed.tokens.weight"),
    same("norm.weight", "stack.final.weight"),
]
_ATTENTION = [
    rule for x in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")
    for rule in pair(f"{L}self_attn.{x}", f"{OURS}parts.0.{x}")
]  # fmt: skip
_MLP = [rule for x in ("gate_proj", "up_proj", "down_proj") for rule in pair(f"{L}mlp.{x}", f"{OURS}parts.1.{x}")]
_PRE_NORMS = [
    same(L + "input_layernorm.weight", OURS + "norms.0.weight"),
    same(L + "post_attention_layernorm.weight", OURS + "norms.1.weight"),
]

_LANGUAGE = Form("ForCausalLM", (same("lm_head.weight", "head.weight"),))
_LAST = sequence("score", Pool("last", dense=False), bias=False)
_TAGS = tokens("score", ("classifier_dropout", "hidden_dropout"))
_FORMS = (_LANGUAGE, _LAST, _TAGS, answers(), *vectors())
_OLD_FORMS = (_LANGUAGE, _LAST, _TAGS, answers(prefix="transformer."), *vectors())  # as their first classes for answers wrote it


def _sizes(c: Config, theta: float = 10000.0) -> dict[str, Any]:
    """What every one of them has."""
    theta, share, scaling = read_rope(c, theta)
    if share != 1.0:
        raise ValueError(f"config.json: {c['model_type']} with partial_rotary_factor {share} is not supported")
    return {
        "dim": c["hidden_size"],
        "depth": c["num_hidden_layers"],
        "heads": c["num_attention_heads"],
        "kv_heads": c.get("num_key_value_heads") or c["num_attention_heads"],
        "head_dim": c.get("head_dim"),
        "hidden": c["intermediate_size"],
        "vocab": c["vocab_size"],
        "context": c.get("max_position_embeddings", 2048),
        "theta": theta,
        "scaling": scaling,
        "eps": c.get("rms_norm_eps", 1e-6),
        "tied": c.get("tie_word_embeddings", False),
    }


def _adapted(recipe: Recipe, c: Config) -> Recipe:
    """Activation, attention dropout and biases of the MLP, which are no arguments of the recipes."""
    recipe = replaced(recipe, MLP, act=c.activation("hidden_act", "silu"), bias=c.get("mlp_bias", False))
    return replaced(recipe, Attention, dropout=float(c.get("attention_dropout") or 0.0))


def _config(model: Model, context: int) -> dict[str, Any] | None:
    """What every one of them has."""
    block = model.stack.blocks[0]
    match block.parts:
        case (Attention(position=Rotary()) as attention, (MLP() | MoE()) as mixer) if model.encoder is None:
            pass
        case _:
            return None
    mlp = mixer.expert if isinstance(mixer, MoE) else mixer
    if block.norm is None or model.dim % attention.heads:
        return None
    return {
        "vocab_size": model.embed.vocab,
        "hidden_size": model.dim,
        "intermediate_size": mlp.inner(model.dim),
        "num_hidden_layers": model.stack.depth,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads or attention.heads,
        "head_dim": attention.head_dim or model.dim // attention.heads,
        "hidden_act": WRITTEN.get(mlp.act),
        "max_position_embeddings": context,
        "rms_norm_eps": block.norm.eps,
        "attention_dropout": attention.dropout,
        "tie_word_embeddings": model.head.tied,
        **write_rope(attention.position),  # type: ignore[arg-type]
    }


def _attention_of(model: Model) -> Attention:
    """The first layer's; `_config` has checked that there is one."""
    attention = model.stack.blocks[0].parts[0]
    assert isinstance(attention, Attention)
    return attention


def _llama_config(model: Model, context: int) -> dict[str, Any] | None:
    config = _config(model, context)
    mlp = model.stack.blocks[0].parts[-1]
    if config is None or not isinstance(mlp, MLP):
        return None
    return config | {"attention_bias": _attention_of(model).bias, "mlp_bias": mlp.bias}


LLAMA = Family(
    "llama",
    "Llama",
    lambda c: _adapted(make("llama", **_sizes(c), bias=c.get("attention_bias", False)), c),
    _llama_config,
    (*_ENDS, *_ATTENTION, *_MLP, *_PRE_NORMS),
    _OLD_FORMS,
    prefix="model.",
    ignore=TABLES,
)


def _mistral_config(model: Model, context: int) -> dict[str, Any] | None:
    config = _config(model, context)
    return None if config is None else config | {"sliding_window": _attention_of(model).window}


MISTRAL = Family(
    "mistral",
    "Mistral",
    lambda c: _adapted(make("mistral", **_sizes(c), window=c.get("sliding_window", 4096)), c),
    _mistral_config,
    LLAMA.rules,
    _FORMS,
    prefix="model.",
    ignore=TABLES,
)


def _qwen3_recipe(c: Config) -> Recipe:
    if any(kind != "full_attention" for kind in c.get("layer_types") or ()):
        raise ValueError("config.json: qwen3 with sliding layers is not supported")
    # transformers' default where the file names no base
    sizes = _sizes(c, 10000.0) | {"head_dim": c.get("head_dim", 128)}
    return _adapted(make("qwen3", **sizes, bias=c.get("attention_bias", False)), c)


def _qwen3_config(model: Model, context: int) -> dict[str, Any] | None:
    config = _config(model, context)
    if config is None:
        return None
    return config | {"attention_bias": _attention_of(model).bias, "use_sliding_window": False, "sliding_window": None}


QWEN3 = Family(
    "qwen3",
    "Qwen3",
    _qwen3_recipe,
    _qwen3_config,
    LLAMA.rules,
    _OLD_FORMS,
    prefix="model.",
    ignore=TABLES,
    only={"use_sliding_window": (False,)},
)


def _olmo2_config(model: Model, context: int) -> dict[str, Any] | None:
    config = _config(model, context)
    if config is None:
        return None
    if config["head_dim"] * config["num_attention_heads"] == model.dim:
        del config["head_dim"]
    return config | {"attention_bias": _attention_of(model).bias}


OLMO2 = Family(
    "olmo2",
    "Olmo2",
    lambda c: _adapted(make("olmo2", **_sizes(c) | {"eps": c.get("rms_norm_eps", 1e-5)}, bias=c.get("attention_bias", False)), c),
    _olmo2_config,
    (
        *_ENDS,
        *_ATTENTION,
        *_MLP,
        same(L + "post_attention_layernorm.weight", OURS + "norms.0.weight"),
        same(L + "post_feedforward_layernorm.weight", OURS + "norms.1.weight"),
    ),
    (_LANGUAGE, _LAST, *vectors()),
    prefix="model.",
    ignore=TABLES,
    only={"clip_qkv": (None,)},
)


def _gemma2_recipe(c: Config) -> Recipe:
    depth = c["num_hidden_layers"]
    in_turn = ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(depth)]
    if (c.get("layer_types") or in_turn) != in_turn:
        raise ValueError("config.json: gemma2 whose layers are not sliding and full in turn is not supported")
    sizes = _sizes(c) | {"head_dim": c.get("head_dim", 256)}
    if sizes.pop("scaling") is not None or not c.get("tie_word_embeddings", True):
        raise ValueError("config.json: gemma2 with rotary scaling or an untied read-out is not supported")
    del sizes["tied"]
    recipe = make(
        "gemma2",
        **sizes,
        window=c.get("sliding_window", 4096),
        query_scalar=c.get("query_pre_attn_scalar", 256),
        caps=(c.get("attn_logit_softcapping", 50.0), c.get("final_logit_softcapping", 30.0)),
    )
    act = c.get("hidden_activation") or c.get("hidden_act") or "gelu_pytorch_tanh"
    # Gemma's first files say "gelu" and mean the approximation; transformers reads hidden_activation alone.
    recipe = replaced(recipe, MLP, act="gelu_tanh" if act == "gelu" else Config(act=act).activation("act", act))
    return replaced(recipe, Attention, dropout=float(c.get("attention_dropout") or 0.0))


def _gemma2_config(model: Model, context: int) -> dict[str, Any] | None:
    config = _config(model, context)
    if config is None:
        return None
    attention = _attention_of(model)
    scalar = round((attention.score.scale or config["head_dim"] ** -0.5) ** -2)
    return config | {
        "hidden_activation": config.pop("hidden_act"),
        "attention_bias": attention.bias,
        "query_pre_attn_scalar": scalar,
        "sliding_window": attention.window,
        "attn_logit_softcapping": attention.score.softcap,
        "final_logit_softcapping": model.head.softcap,
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(model.stack.depth)],
    }


GEMMA2 = Family(
    "gemma2",
    "Gemma2",
    _gemma2_recipe,
    _gemma2_config,
    (
        *_ENDS,
        *_ATTENTION,
        *_MLP,
        same(L + "input_layernorm.weight", OURS + "norms.0.weight"),
        same(L + "post_attention_layernorm.weight", OURS + "after.0.weight"),
        same(L + "pre_feedforward_layernorm.weight", OURS + "norms.1.weight"),
        same(L + "post_feedforward_layernorm.weight", OURS + "after.1.weight"),
    ),
    (_LANGUAGE, _LAST, _TAGS, *vectors()),
    prefix="model.",
    ignore=TABLES,
    only={"attention_bias": (False,), "use_bidirectional_attention": (None, False)},
)

_EXPERT = "parts.1.experts."


def _mixtral_recipe(c: Config) -> Recipe:
    sizes = _sizes(c, 1e6) | {"eps": c.get("rms_norm_eps", 1e-5)}
    experts = {"experts": c.get("num_local_experts", 8), "top": c.get("num_experts_per_tok", 2)}
    return _adapted(make("mixtral", **sizes, **experts, window=c.get("sliding_window")), c)


def _mixtral_config(model: Model, context: int) -> dict[str, Any] | None:
    config, mixer = _config(model, context), model.stack.blocks[0].parts[-1]
    if config is None or not isinstance(mixer, MoE):
        return None
    experts = {"num_local_experts": mixer.experts, "num_experts_per_tok": mixer.top}
    return config | experts | {"sliding_window": _attention_of(model).window}


def _fused_experts(folder: str) -> list[Rule]:
    """Experts held in one tensor per layer, as transformers 5 does in memory."""
    halves = tuple(f"{OURS}{_EXPERT}*.{x}.weight" for x in ("gate_proj", "up_proj"))
    return [
        Rule(f"{L}{folder}.experts.gate_up_proj", halves, "gate_up_experts", read_only=True),
        Rule(f"{L}{folder}.experts.down_proj", (f"{OURS}{_EXPERT}*.down_proj.weight",), "experts", read_only=True),
        same(f"{L}{folder}.gate.weight", OURS + "parts.1.router.weight", read_only=True),
    ]


MIXTRAL = Family(
    "mixtral",
    "Mixtral",
    _mixtral_recipe,
    _mixtral_config,
    (
        *_ENDS,
        *_ATTENTION,
        *_PRE_NORMS,
        same(L + "block_sparse_moe.gate.weight", OURS + "parts.1.router.weight"),
        same(L + "block_sparse_moe.experts.{}.w1.weight", OURS + _EXPERT + "{}.gate_proj.weight"),
        same(L + "block_sparse_moe.experts.{}.w3.weight", OURS + _EXPERT + "{}.up_proj.weight"),
        same(L + "block_sparse_moe.experts.{}.w2.weight", OURS + _EXPERT + "{}.down_proj.weight"),
        *_fused_experts("mlp"),
    ),
    _FORMS,
    prefix="model.",
    ignore=TABLES,
)

FAMILIES = (LLAMA, MISTRAL, QWEN3, OLMO2, GEMMA2, MIXTRAL)
