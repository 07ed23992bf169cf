"""A Hugging Face folder as a GGUF file: what llama.cpp needs to multiply, and a vocabulary where it is to write texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from genus.modalities.text import Tokenizer


def write(folder: Path, file: Path, tokenizer: Tokenizer | None = None) -> None:
    """Matrices in bf16, vectors in float32; for GPT-2 and LLaMA.

    Args:
        tokenizer: a byte-level BPE that the file holds too; None = no vocabulary.

    Raises:
        ValueError: another kind of model, or of tokenizer.
    """
    import gguf

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config["model_type"]
    if kind not in ("gpt2", "llama"):
        raise ValueError(f"no map to GGUF for {kind}")
    weights: dict[str, torch.Tensor] = {}
    for part in sorted(folder.glob("*.safetensors")):
        weights |= load_file(part)
    depth = config["n_layer"] if kind == "gpt2" else config["num_hidden_layers"]
    out = gguf.GGUFWriter(str(file), kind)
    _describe(out, config, kind, depth)
    _vocabulary(out, tokenizer)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, kind.upper()), depth)
    for name, weight in weights.items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        if kind == "gpt2" and weight.dim() == 2 and ".h." in f".{name}":
            weight = weight.T  # GPT-2's layers are stored the other way round
        if kind == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = _interleaved(weight, config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"])
        if weight.dim() == 2 and "position" not in theirs:
            bits = weight.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint16)
            out.add_tensor(theirs, bits.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            out.add_tensor(theirs, weight.float().contiguous().numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _describe(out: Any, config: dict[str, Any], kind: str, depth: int) -> None:
    out.add_block_count(depth)
    out.add_vocab_size(config["vocab_size"])
    if kind == "gpt2":
        out.add_context_length(config["n_positions"])
        out.add_embedding_length(config["n_embd"])
        out.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
        out.add_head_count(config["n_head"])
        out.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    head = config["hidden_size"] // config["num_attention_heads"]
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_dimension_count(head)


def _vocabulary(out: Any, tokenizer: Tokenizer | None) -> None:
    if tokenizer is None:
        out.add_tokenizer_model("no_vocab")
        return
    state = json.loads(tokenizer.core.to_str())["model"]
    if state["type"] != "BPE" or not tokenizer.byte_level:
        raise ValueError("only a byte-level BPE has a map to GGUF here")
    normal, control = 1, 3
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([tokenizer.token(i) or f"<unused {i}>" for i in range(tokenizer.vocab_size)])
    out.add_token_types([control if i in tokenizer.special_ids else normal for i in range(tokenizer.vocab_size)])
    out.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in state["merges"]])
    out.add_bos_token_id(tokenizer.bos_id)
    out.add_eos_token_id(tokenizer.eos_id)
    out.add_add_bos_token(True)


def _interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp turns neighbouring features of a head together, transformers those half a head apart."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
