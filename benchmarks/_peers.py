"""The same decoder built by other libraries, each as one whole training step with its best settings.

All of them: float32 master weights, bfloat16 compute through autocast, fused scaled-dot-product attention, fused AdamW, gradient
clipping at 1. `keep_freed_memory` is set for the whole process, so they have it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[], object]


@dataclass(frozen=True)
class Shape:
    """Sizes of a benchmark; `hidden` is the inner width of the gated layer, the plain one takes 4 x dim."""

    depth: int
    dim: int
    heads: int
    context: int
    vocab: int
    batch: int
    hidden: int

    @property
    def tokens(self) -> int:
        return self.batch * self.context


class Logits(nn.Module):
    """Unwraps the logits of a Hugging Face model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids, use_cache=False).logits  # type: ignore[no-any-return]


def transformers_gpt2(s: Shape) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=s.vocab,
        n_positions=s.context,
        n_embd=s.dim,
        n_layer=s.depth,
        n_head=s.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="sdpa",
    )
    return Logits(GPT2LMHeadModel(config))


def transformers_llama(s: Shape) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=s.vocab,
        hidden_size=s.dim,
        intermediate_size=s.hidden,
        num_hidden_layers=s.depth,
        num_attention_heads=s.heads,
        max_position_embeddings=s.context,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="sdpa",
    )
    return Logits(LlamaForCausalLM(config))


def litgpt_llama(s: Shape) -> nn.Module:
    from litgpt import GPT, Config

    config = Config(
        name="bench",
        block_size=s.context,
        padded_vocab_size=s.vocab,
        vocab_size=s.vocab,
        n_layer=s.depth,
        n_embd=s.dim,
        n_head=s.heads,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=s.hidden,
    )
    return GPT(config)  # type: ignore[no-any-return]


def x_transformers_gpt2(s: Shape) -> nn.Module:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=s.dim, depth=s.depth, heads=s.heads, attn_dim_head=s.dim // s.heads, attn_flash=True)
    return TransformerWrapper(num_tokens=s.vocab, max_seq_len=s.context, attn_layers=layers, tie_embedding=True)


def x_transformers_llama(s: Shape) -> nn.Module:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=s.dim,
        depth=s.depth,
        heads=s.heads,
        attn_dim_head=s.dim // s.heads,
        attn_flash=True,
        rotary_pos_emb=True,
        rotary_emb_dim=s.dim // s.heads,
        use_rmsnorm=True,
        ff_swish=True,
        ff_glu=True,
        ff_no_bias=True,
        ff_mult=s.hidden / s.dim,
    )
    return TransformerWrapper(num_tokens=s.vocab, max_seq_len=s.context, attn_layers=layers, use_abs_pos_emb=False)


PEERS: dict[str, dict[str, Callable[[Shape], nn.Module]]] = {
    "gpt2": {"transformers GPT-2": transformers_gpt2, "x-transformers": x_transformers_gpt2},
    "llama": {"transformers LLaMA": transformers_llama, "litgpt": litgpt_llama, "x-transformers": x_transformers_llama},
}


def training_step(model: nn.Module, s: Shape, compiled: bool, device: torch.device) -> Step:
    """One update as these libraries' users write it. On a GPU its loss is not waited for."""
    model.to(device).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids, targets = (torch.randint(0, s.vocab, (s.batch, s.context), device=device) for _ in range(2))
    call: Any = torch.compile(model) if compiled else model

    def step() -> object:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = call(ids)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()) if device.type == "cpu" else loss.detach()

    return step
