"""config.json of a model that no family of transformers expresses: our specification, and the adapter's class that opens it."""

from __future__ import annotations

from typing import Any

from genus.export.families.form import ANSWERS, SEQUENCE, TOKENS, numbered
from genus.export.labels import Labels
from genus.parts.attention import Attention
from genus.parts.head import Head
from genus.parts.model import Model
from genus.parts.task_head import TaskHead, Vectors
from genus.spec import walk

MODEL_TYPE = "genus"


def generic_config(spec: Model, context: int, labels: Labels) -> dict[str, Any]:
    """All keys but the specification itself."""
    config: dict[str, Any] = {
        "model_type": MODEL_TYPE,
        "vocab_size": spec.embed.vocab,
        "hidden_size": spec.dim,
        "num_hidden_layers": spec.stack.depth,
        "max_position_embeddings": context,
        "tie_word_embeddings": spec.head.tied,
        "use_cache": False,
    }
    suffix = _suffix(spec, labels)
    if suffix is not None:
        auto = "" if suffix == "Model" else suffix
        config["architectures"] = [f"Genus{suffix}"]
        config["auto_map"] = {
            "AutoConfig": "configuration_genus.GenusConfig",
            f"AutoModel{auto}": f"modeling_genus.Genus{suffix}",
        }
    if suffix == "ForSeq2SeqLM":
        config |= {"is_encoder_decoder": True, "decoder_start_token_id": 0}
    if isinstance(spec.head, TaskHead):
        config |= numbered(spec.head.outputs)
    return config


def _suffix(spec: Model, labels: Labels) -> str | None:
    """Of the adapter's class; None where it has none."""
    if spec.encoder is not None:
        return "ForSeq2SeqLM" if isinstance(spec.head, Head) else None
    match spec.head:
        case Vectors():
            return "Model"
        case TaskHead(pool=None):
            return ANSWERS if labels.problem == "question_answering" else TOKENS
        case TaskHead():
            return SEQUENCE
    causal = all(p.causal or p.cross for p in walk(spec) if isinstance(p, Attention))
    return "ForCausalLM" if causal else "ForMaskedLM"
