"""Same weights, same logits: every family against the installed transformers, through real folders on disk, in float32.

The negative control perturbs each of our parameters in turn and demands that the logits move: agreement then cannot come from a
parameter that nobody reads.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.export import huggingface

transformers = pytest.importorskip("transformers")

ATOL = 1e-4
MOVED = 1e-3
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 61}
WIDE = SIZES | {"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIXTH = {"hidden_size": 48, "n_layer": 2, "n_head": 6, "vocab_size": 61}  # ALiBi has another rule off the powers of two
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 61, "n_positions": 40, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "vocab_size": 61}
GROUPED = WIDE | {"num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# A constant added to every key adds the same number to all scores of a query, which the softmax takes away again.
KEY_BIAS = "k_proj.bias"


@dataclass(frozen=True)
class Case:
    """A peer, its configuration, and the parameters of ours whose change cannot show."""

    model: str
    config: str
    arguments: dict[str, Any] = field(default_factory=dict)
    silent: str | None = None

    def build(self) -> Any:
        config = getattr(transformers, self.config)(**self.arguments)
        config._attn_implementation = "eager"
        peer = getattr(transformers, self.model)(config).eval()
        with torch.no_grad():
            for p in peer.parameters():
                p.add_(torch.randn_like(p) * 0.1)
        return peer


CASES = {
    "gpt2": Case("GPT2LMHeadModel", "GPT2Config", GPT | {"n_inner": 48}, KEY_BIAS),
    "gpt1": Case("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", GPT, KEY_BIAS),
    "gpt_neox": Case("GPTNeoXForCausalLM", "GPTNeoXConfig", WIDE),
    "gpt_neox-sequential": Case(
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        WIDE
        | {
            "use_parallel_residual": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 1.0},
        },
    ),
    "bloom": Case("BloomForCausalLM", "BloomConfig", SIZES, KEY_BIAS),
    "bloom-6-heads": Case("BloomForCausalLM", "BloomConfig", SIXTH, KEY_BIAS),
    "llama": Case("LlamaForCausalLM", "LlamaConfig", WIDE),
    "llama-grouped": Case("LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": True, "head_dim": 12}),
    "llama-3": Case("LlamaForCausalLM", "LlamaConfig", GROUPED | {"rope_parameters": LLAMA3}),
    "llama-biases": Case("LlamaForCausalLM", "LlamaConfig", WIDE | {"attention_bias": True, "mlp_bias": True}),
    "mistral": Case("MistralForCausalLM", "MistralConfig", GROUPED | {"sliding_window": 5}),
    "qwen3": Case("Qwen3ForCausalLM", "Qwen3Config", GROUPED | {"head_dim": 16}),
    "olmo2": Case("Olmo2ForCausalLM", "Olmo2Config", GROUPED),
    "gemma2": Case(
        "Gemma2ForCausalLM", "Gemma2Config", GROUPED | {"head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 24}
    ),
    "mixtral": Case("MixtralForCausalLM", "MixtralConfig", GROUPED | {"num_local_experts": 4}),
    "bert": Case("BertForMaskedLM", "BertConfig", WIDE, KEY_BIAS),
    "t5": Case("T5ForConditionalGeneration", "T5Config", T5),
    "t5-v1.1": Case(
        "T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def runner(peer: Any) -> Callable[[Any], Tensor]:
    """A function that gives the logits of the peer or of our model on one fixed input."""
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 61, (2, 24), generator=g)
    source = torch.randint(3, 61, (2, 17), generator=g)
    types = torch.randint(0, 2, ids.shape, generator=g)
    kind = peer.config.model_type
    theirs: dict[str, Tensor] = {"input_ids": ids}
    ours: dict[str, Tensor] = {}
    if kind == "t5":
        mask = torch.ones_like(source)
        mask[0, 12:] = 0
        theirs = {"input_ids": source, "attention_mask": mask, "decoder_input_ids": ids}
        ours = {"source": source, "source_doc": mask - 1}
    elif kind == "bert":
        theirs["token_type_ids"] = ours["types"] = types

    @torch.no_grad()
    def logits(model: Any) -> Tensor:
        if isinstance(model, transformers.PreTrainedModel):
            return model(**theirs).logits.float()
        return model(ids, **ours)

    return logits


def untie(peer: Any, case: Case) -> None:
    """transformers ties T5 v1.1 when it makes one from nothing; real checkpoints have a read-out of their own."""
    if case.arguments.get("tie_word_embeddings") is False and peer.config.model_type == "t5":
        weight = torch.nn.Parameter(torch.randn_like(peer.lm_head.weight))
        peer.lm_head.weight = weight
        peer.all_tied_weights_keys.pop("lm_head.weight", None)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_same_logits_and_every_parameter_counts(case: Case, tmp_path: Path) -> None:
    peer = case.build()
    untie(peer, case)
    peer.save_pretrained(tmp_path)
    ours, _, _ = huggingface.load(tmp_path)
    logits = runner(peer)
    expected = logits(peer)
    assert (logits(ours) - expected).abs().max() <= ATOL
    assert expected.std() > 0.1
    silent = set()
    for name, p in ours.named_parameters():
        kept = p.detach().clone()
        with torch.no_grad():
            p.add_(torch.randn_like(p))
            if (logits(ours) - expected).abs().max() < MOVED:
                silent.add(name)
            p.copy_(kept)
    assert silent == {n for n, _ in ours.named_parameters() if case.silent and n.endswith(case.silent)}


def test_our_file_is_theirs(case: Case, tmp_path: Path) -> None:
    """Read theirs, write ours: transformers opens it with the same logits, and reading it back changes no bit."""
    peer = case.build()
    untie(peer, case)
    peer.save_pretrained(tmp_path / "theirs")
    ours, spec, _ = huggingface.load(tmp_path / "theirs")
    assert huggingface.save(tmp_path / "ours", ours, spec, context=40) == peer.config.model_type
    auto = huggingface.opener(json.loads((tmp_path / "ours" / "config.json").read_text())).split()[3].rstrip(";")
    options = {"attn_implementation": "eager", "output_loading_info": True}
    again, info = getattr(transformers, auto).from_pretrained(tmp_path / "ours", **options)
    assert not any(info.values()), info
    logits = runner(peer)
    assert torch.equal(logits(again.eval()), logits(peer))
    back, spec_back, _ = huggingface.load(tmp_path / "ours")
    assert spec_back == spec
    before, after = ours.state_dict(), back.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_a_config_that_transformers_wrote_back_means_the_same(case: Case, tmp_path: Path) -> None:
    """Fine-tuning elsewhere ends with `save_pretrained`: what we then read is the model that we wrote."""
    peer = case.build()
    untie(peer, case)
    peer.save_pretrained(tmp_path / "theirs")
    ours, spec, _ = huggingface.load(tmp_path / "theirs")
    huggingface.save(tmp_path / "ours", ours, spec)
    again = type(peer).from_pretrained(tmp_path / "ours")
    again.save_pretrained(tmp_path / "again")
    assert huggingface.load(tmp_path / "again")[1] == spec
