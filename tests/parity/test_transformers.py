"""Same weights, same logits: every family against the installed transformers, through real folders on disk, in float32.

The negative control perturbs each of our parameters in turn and demands that the logits move: agreement then cannot come from a
parameter that nobody reads.
"""

import json
from pathlib import Path

import pytest
import torch

from genus.export import huggingface

from .conftest import (
    ALBERT,
    ATOL,
    DISTILBERT,
    GPT,
    GROUPED,
    KEY_BIAS,
    ROBERTA,
    SIZES,
    T5,
    T5_V1_1,
    WIDE,
    Case,
    runner,
    silent_parameters,
)  # fmt: skip

transformers = pytest.importorskip("transformers")

SIXTH = {"hidden_size": 48, "n_layer": 2, "n_head": 6, "vocab_size": 61}  # ALiBi has another rule off the powers of two
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

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
    "bert-both-heads": Case("BertForPreTraining", "BertConfig", WIDE, KEY_BIAS),
    "bert-bare": Case("BertModel", "BertConfig", WIDE, KEY_BIAS),
    "roberta": Case("RobertaForMaskedLM", "RobertaConfig", ROBERTA, KEY_BIAS),
    "roberta-bare": Case("RobertaModel", "RobertaConfig", ROBERTA, KEY_BIAS),
    "albert": Case("AlbertForMaskedLM", "AlbertConfig", ALBERT, KEY_BIAS),
    "albert-both-heads": Case("AlbertForPreTraining", "AlbertConfig", ALBERT | {"inner_group_num": 2}, KEY_BIAS),
    "albert-bare": Case("AlbertModel", "AlbertConfig", ALBERT, KEY_BIAS),
    "distilbert": Case("DistilBertForMaskedLM", "DistilBertConfig", DISTILBERT, KEY_BIAS),
    "distilbert-bare": Case("DistilBertModel", "DistilBertConfig", DISTILBERT, KEY_BIAS),
    "llama-bare": Case("LlamaModel", "LlamaConfig", WIDE),
    "gpt2-bare": Case("GPT2Model", "GPT2Config", GPT, KEY_BIAS),
    "t5": Case("T5ForConditionalGeneration", "T5Config", T5),
    "t5-v1.1": Case("T5ForConditionalGeneration", "T5Config", T5_V1_1),
    "t5-bare": Case("T5Model", "T5Config", T5),
    "t5-encoder": Case("T5EncoderModel", "T5Config", T5 | {"feed_forward_proj": "gated-gelu"}),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_same_logits_and_every_parameter_counts(case: Case, tmp_path: Path) -> None:
    peer = case.build()
    peer.save_pretrained(tmp_path)
    ours, _, _ = huggingface.load(tmp_path)
    outputs = runner(peer)
    expected = outputs(peer)
    assert (outputs(ours) - expected).abs().max() <= ATOL
    assert expected.std() > 0.1
    silent = silent_parameters(ours, outputs, expected)
    assert silent == {n for n, _ in ours.named_parameters() if case.silent and n.endswith(case.silent)}


def test_our_file_is_theirs(case: Case, tmp_path: Path) -> None:
    """Read theirs, write ours: transformers opens it with the same logits, and reading it back changes no bit."""
    peer = case.build()
    peer.save_pretrained(tmp_path / "theirs")
    ours, spec, _ = huggingface.load(tmp_path / "theirs")
    assert huggingface.save(tmp_path / "ours", ours, spec, context=40) == peer.config.model_type
    auto = huggingface.opener(json.loads((tmp_path / "ours" / "config.json").read_text())).split()[3].rstrip(";")
    options = {"attn_implementation": "eager", "output_loading_info": True}
    again, info = getattr(transformers, auto).from_pretrained(tmp_path / "ours", **options)
    assert not any(info.values()), info
    outputs = runner(peer)
    assert torch.equal(outputs(again.eval()), outputs(peer))
    back, spec_back, _ = huggingface.load(tmp_path / "ours")
    assert spec_back == spec
    before, after = ours.state_dict(), back.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_a_config_that_transformers_wrote_back_means_the_same(case: Case, tmp_path: Path) -> None:
    """Fine-tuning elsewhere ends with `save_pretrained`: what we then read is the model that we wrote."""
    peer = case.build()
    peer.save_pretrained(tmp_path / "theirs")
    ours, spec, _ = huggingface.load(tmp_path / "theirs")
    huggingface.save(tmp_path / "ours", ours, spec)
    again = type(peer).from_pretrained(tmp_path / "ours")
    again.save_pretrained(tmp_path / "again")
    assert huggingface.load(tmp_path / "again")[1] == spec
