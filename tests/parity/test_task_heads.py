"""Models tuned for a task: every class of transformers for it that a family has, same outputs both ways."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from genus.export import families, huggingface
from genus.export.families.form import ANSWERS, SEQUENCE, TOKENS

from .conftest import (
    ALBERT,
    ATOL,
    DISTILBERT,
    GPT,
    GROUPED,
    KEY_BIAS,
    PAD,
    ROBERTA,
    T5,
    T5_V1_1,
    VOCAB,
    WIDE,
    Case,
    runner,
    silent_parameters,
)  # fmt: skip

transformers = pytest.importorskip("transformers")

NAMED = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
PADDED = {"pad_token_id": PAD}  # these classes look for the last token before the padding
FRAMED = {"eos_token_id": 2, "decoder_start_token_id": 0}
PEERS = {
    "Bert": ("BertConfig", WIDE),
    "Roberta": ("RobertaConfig", ROBERTA),
    "Albert": ("AlbertConfig", ALBERT | {"classifier_dropout_prob": 0.25}),
    "DistilBert": ("DistilBertConfig", DISTILBERT),
    "GPT2": ("GPT2Config", GPT | PADDED),
    "OpenAIGPT": ("OpenAIGPTConfig", GPT | PADDED),
    "GPTNeoX": ("GPTNeoXConfig", WIDE),
    "Bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCAB} | PADDED),
    "Llama": ("LlamaConfig", GROUPED),
    "Mistral": ("MistralConfig", GROUPED),
    "Qwen3": ("Qwen3Config", GROUPED | {"head_dim": 16}),
    "Olmo2": ("Olmo2Config", GROUPED),
    "Gemma2": ("Gemma2Config", GROUPED | {"head_dim": 16, "query_pre_attn_scalar": 24}),
    "Mixtral": ("MixtralConfig", GROUPED | {"num_local_experts": 2}),  # the last token of two rows, and no expert may be idle
    "T5": ("T5Config", T5 | FRAMED),
}
TASKS = (SEQUENCE, TOKENS, ANSWERS)
KEYS_MAY_SHIFT = ("Bert", "Roberta", "Albert", "DistilBert", "GPT2", "OpenAIGPT", "Bloom")
CASES = [
    Case(architecture.name, *PEERS[family.stem])
    for family in families.FAMILIES
    for architecture in family.architectures
    if architecture.form.suffix in TASKS and family.only.get("feed_forward_proj", ("relu",))[0] == "relu"
] + [Case("T5ForSequenceClassification", "T5Config", T5_V1_1 | FRAMED)]


def build(case: Case) -> Any:
    labels = {} if case.model.endswith(ANSWERS) else NAMED
    return Case(case.model, case.config, case.arguments | labels).build()


@pytest.fixture(params=CASES, ids=lambda case: f"{case.model}-{case.arguments.get('feed_forward_proj', 'usual')}")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_every_class_of_a_task_is_there() -> None:
    """Nothing that transformers has for these models is left out."""
    ours = {case.model for case in CASES}
    theirs = {stem + task for stem in PEERS for task in TASKS if hasattr(transformers, stem + task)}
    assert theirs == ours


def test_same_outputs_and_every_parameter_counts(case: Case, tmp_path: Path) -> None:
    peer = build(case)
    peer.save_pretrained(tmp_path)
    ours, spec, _ = huggingface.load(tmp_path)
    outputs = runner(peer)
    expected = outputs(peer)
    assert (outputs(ours) - expected).abs().max() <= ATOL
    assert expected.std() > 0.1
    silent = KEY_BIAS if case.model.removesuffix(SEQUENCE).removesuffix(TOKENS).removesuffix(ANSWERS) in KEYS_MAY_SHIFT else None
    assert silent_parameters(ours, outputs, expected) == {n for n, _ in ours.named_parameters() if silent and n.endswith(silent)}
    assert spec.head.outputs == (2 if case.model.endswith(ANSWERS) else 3)


def test_our_file_is_theirs(case: Case, tmp_path: Path) -> None:
    peer = build(case)
    peer.save_pretrained(tmp_path / "theirs")
    ours, spec, _ = huggingface.load(tmp_path / "theirs")
    told = huggingface.labels_of(tmp_path / "theirs")
    assert told.names == (() if case.model.endswith(ANSWERS) else ("a", "b", "c"))
    kind = huggingface.save(tmp_path / "ours", ours, spec, context=40, labels=told.names, problem=told.problem)
    assert kind == peer.config.model_type
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["architectures"] == [case.model]
    auto = huggingface.opener(config).split()[3].rstrip(";")
    options = {"attn_implementation": "eager", "output_loading_info": True, "pad_token_id": peer.config.pad_token_id}
    again, info = getattr(transformers, auto).from_pretrained(tmp_path / "ours", **options, eos_token_id=peer.config.eos_token_id)
    assert type(again) is type(peer)
    assert not any(info.values()), info
    assert again.config.id2label == peer.config.id2label
    outputs = runner(peer)
    assert torch.equal(outputs(again.eval()), outputs(peer))
    assert huggingface.labels_of(tmp_path / "ours") == told
    back, spec_back, _ = huggingface.load(tmp_path / "ours")
    assert spec_back == spec
    assert all(torch.equal(p, back.state_dict()[n]) for n, p in ours.state_dict().items())
    again.save_pretrained(tmp_path / "again")
    assert huggingface.load(tmp_path / "again")[1] == spec
