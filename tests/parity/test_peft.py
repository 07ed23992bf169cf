"""The same adapter, the same logits: what we save peft loads, what peft saves we load, for every class it can be put on."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genus.export import huggingface
from genus.recipes.recipe import Recipe
from genus.train.grow import grown
from genus.tune.adapters import LowRank, adapted, attach, detach, learning_rows, merge, select
from genus.tune.adapters.peft import load_peft, save_peft
from genus.tune.adapters.verify import verify
from genus.tune.methods import DoRA, LoRA

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

ATOL = 2e-5
WIDE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "vocab_size": 61,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = WIDE | {"num_key_value_heads": 2}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 61, "n_positions": 40, "bos_token_id": 1, "eos_token_id": 2}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 61}
BERT = ["query", "key", "value", "dense"]  # peft's "all-linear" would take these classes' own read-outs, and then stumble
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 61, "decoder_start_token_id": 0}


@dataclass(frozen=True)
class Case:
    """A class, its configuration, and names of peft's for some and for all of its matrices."""

    model: str
    config: str
    arguments: dict[str, Any]
    some: list[str]
    task: str | None = None
    labels: int | None = None
    problem: str | None = None
    every: str | list[str] = "all-linear"
    ours: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])

    def build(self, folder: Path) -> Any:
        labels = {} if self.labels is None else {"num_labels": self.labels}
        torch.manual_seed(0)
        peer = getattr(transformers, self.model)(getattr(transformers, self.config)(**self.arguments, **labels)).eval()
        with torch.no_grad():
            for p in peer.parameters():
                p.add_(torch.randn_like(p) * 0.1)
        peer.save_pretrained(folder)
        return peer

    def again(self, folder: Path) -> Any:
        return getattr(transformers, self.model).from_pretrained(folder).eval()


CASES = {
    "gpt2": Case("GPT2LMHeadModel", "GPT2Config", GPT2, ["c_attn"], "CAUSAL_LM"),
    "gpt_neox": Case("GPTNeoXForCausalLM", "GPTNeoXConfig", WIDE, ["query_key_value"], "CAUSAL_LM"),
    "llama": Case("LlamaForCausalLM", "LlamaConfig", GROUPED, ["q_proj", "v_proj"], "CAUSAL_LM"),
    "mistral": Case("MistralForCausalLM", "MistralConfig", GROUPED, ["q_proj", "down_proj"], "CAUSAL_LM"),
    "qwen3": Case("Qwen3ForCausalLM", "Qwen3Config", GROUPED | {"head_dim": 16}, ["k_proj"], "CAUSAL_LM"),
    "bert": Case("BertForMaskedLM", "BertConfig", WIDE, ["query", "value"]),
    "bert-classifier": Case("BertForSequenceClassification", "BertConfig", WIDE, ["query", "value"], "SEQ_CLS", 3),
    "bert-answers": Case(
        "BertForQuestionAnswering",
        "BertConfig",
        WIDE,
        ["query", "value"],
        "QUESTION_ANS",
        problem="question_answering",
        every=BERT,
    ),
    "albert": Case(
        "AlbertForMaskedLM", "AlbertConfig", WIDE | {"embedding_size": 16, "num_hidden_groups": 1}, ["query", "value"]
    ),
    "roberta": Case(
        "RobertaForTokenClassification",
        "RobertaConfig",
        WIDE | {"type_vocab_size": 1},
        ["query", "key"],
        "TOKEN_CLS",
        3,
        every=BERT,
    ),
    "bloom": Case("BloomForCausalLM", "BloomConfig", BLOOM, ["query_key_value"], "CAUSAL_LM"),
    "t5": Case("T5ForConditionalGeneration", "T5Config", T5, ["q", "v"], "SEQ_2_SEQ_LM"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _logits(peer: Any) -> Callable[[Any], Tensor]:
    g = torch.Generator().manual_seed(1)
    ids, source = torch.randint(3, 61, (2, 15), generator=g), torch.randint(3, 61, (2, 9), generator=g)
    pair = peer.config.model_type == "t5"

    @torch.no_grad()
    def logits(model: Any) -> Tensor:
        if hasattr(model, "config"):
            out = model(**({"input_ids": source, "decoder_input_ids": ids} if pair else {"input_ids": ids}))
            starts = getattr(out, "start_logits", None)
            return out.logits.float() if starts is None else torch.stack([starts, out.end_logits], -1).float()
        return model(ids, **({"source": source} if pair else {}))

    return logits


@torch.no_grad()
def _change(model: nn.Module, targets: list[str], dora: bool, ranks: tuple[int, ...] = (3,)) -> None:
    """Changes that are far from nothing, with ranks and scales in turn."""
    chosen = select(model, targets)
    changes = {
        name: LowRank(m.weight, ranks[i % len(ranks)], 0.5 + i % 3, dora=dora) for i, (name, m) in enumerate(chosen.items())
    }
    for change in changes.values():
        change.lora_B.normal_(0, 0.3)
        if change.lora_magnitude is not None:
            change.lora_magnitude.mul_(torch.rand_like(change.lora_magnitude) + 0.5)
    attach(model, changes)


def _same(ours: Tensor, theirs: Tensor, base: Tensor) -> None:
    assert (ours - theirs).abs().max() <= ATOL
    assert (ours - base).abs().max() > 0.05  # the adapter has something to say


@pytest.mark.parametrize("targets, dora", [("some", False), ("all", False), ("all", True)], ids=["some", "lora", "dora"])
def test_peft_loads_ours(case: Case, targets: str, dora: bool, tmp_path: Path) -> None:
    peer = case.build(tmp_path / "base")
    logits = _logits(peer)
    base = logits(peer)
    ours = huggingface.load(tmp_path / "base")[0]
    torch.manual_seed(1)
    _change(ours, ["all-linear"] if targets == "all" else case.ours, dora, ranks=(2, 3))
    save_peft(tmp_path / "adapter", ours, tmp_path / "base", case.problem)
    theirs = peft.PeftModel.from_pretrained(case.again(tmp_path / "base"), tmp_path / "adapter").eval()
    _same(logits(ours), logits(theirs), base)
    assert (logits(theirs.merge_and_unload()) - logits(ours)).abs().max() <= ATOL


@pytest.mark.parametrize("targets, dora", [("some", False), ("all", False), ("all", True)], ids=["some", "lora", "dora"])
def test_ours_loads_pefts(case: Case, targets: str, dora: bool, tmp_path: Path) -> None:
    peer = case.build(tmp_path / "base")
    logits = _logits(peer)
    base = logits(peer)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=targets == "all",
        target_modules=case.some if targets == "some" else case.every,
        rank_pattern={case.some[0]: 2},
        alpha_pattern={case.some[0]: 5},
        task_type=case.task,
        use_dora=dora,
    )
    theirs = peft.get_peft_model(case.again(tmp_path / "base"), config).eval()
    torch.manual_seed(2)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.3)
            if "magnitude" in name or (case.labels and p.requires_grad and "lora" not in name):
                p.mul_(torch.rand_like(p) + 0.5)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = huggingface.load(tmp_path / "base")[0]
    load_peft(ours, tmp_path / "adapter", case.problem)
    _same(logits(ours), logits(theirs), base)
    before = {name: (c.lora_A.clone(), c.lora_B.clone()) for name, (_, c) in adapted(ours).items()}
    save_peft(tmp_path / "again", ours, problem=case.problem)
    again = huggingface.load(tmp_path / "base")[0]
    load_peft(again, tmp_path / "again", case.problem)
    assert (logits(again) - logits(ours)).abs().max() <= ATOL
    for name, (_, c) in adapted(again).items():  # and what was split and joined is split again without growing
        assert c.lora_A.shape == before[name][0].shape
    merge(again)
    detach(again)
    assert (logits(again) - logits(ours)).abs().max() <= ATOL


def test_experts(tmp_path: Path) -> None:
    """transformers holds all experts of a layer in one tensor; peft puts changes with the experts' names there."""
    case = Case("MixtralForCausalLM", "MixtralConfig", GROUPED | {"num_local_experts": 4}, [])
    logits = _logits(case.build(tmp_path / "base"))
    ours = huggingface.load(tmp_path / "base")[0]
    base = logits(ours)
    chosen = select(ours, ["all-linear"])
    attach(ours, {name: LowRank(m.weight, 3, 2.0) for name, m in chosen.items()})
    for _, change in adapted(ours).values():
        nn.init.normal_(change.lora_B, 0, 0.3)
    save_peft(tmp_path / "adapter", ours, tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(case.again(tmp_path / "base"), tmp_path / "adapter").eval()
    _same(logits(ours), logits(theirs), base)
    again = huggingface.load(tmp_path / "base")[0]
    load_peft(again, tmp_path / "adapter")
    assert torch.equal(logits(again), logits(ours))


def test_a_tied_table(tmp_path: Path) -> None:
    """One matrix that is looked up and read out, changed once; peft writes the change under both names."""
    case = Case("LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": True}, [])
    peer = case.build(tmp_path / "base")
    logits = _logits(peer)
    base = logits(peer)
    ours = huggingface.load(tmp_path / "base")[0]
    _change(ours, ["head", "q_proj"], dora=False)
    save_peft(tmp_path / "adapter", ours, base=tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(case.again(tmp_path / "base"), tmp_path / "adapter").eval()
    _same(logits(ours), logits(theirs), base)
    again = huggingface.load(tmp_path / "base")[0]
    load_peft(again, tmp_path / "adapter")
    assert torch.equal(logits(again), logits(ours))


def test_what_is_written_is_short(tmp_path: Path) -> None:
    """Names by their ends, and patterns only where ranks differ."""
    CASES["gpt2"].build(tmp_path / "base")
    ours = huggingface.load(tmp_path / "base")[0]
    chosen = select(ours, ["all-linear"])
    attach(ours, {name: LowRank(m.weight, 8, 2.0) for name, m in chosen.items()})
    save_peft(tmp_path / "adapter", ours)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["c_attn", "c_fc", "c_proj"]
    assert (config["r"], config["lora_alpha"]) == (8, 16)
    assert config["rank_pattern"] == {"c_attn": 24} and config["alpha_pattern"] == {"c_attn": 48}


def test_auto_class_opens_ours(tmp_path: Path) -> None:
    CASES["bert"].build(tmp_path / "base")
    ours = huggingface.load(tmp_path / "base")[0]
    _change(ours, ["attention"], dora=False)
    save_peft(tmp_path / "adapter", ours, base=tmp_path / "base")
    theirs = peft.AutoPeftModel.from_pretrained(tmp_path / "adapter").eval()
    assert type(theirs.get_base_model()).__name__ == "BertForMaskedLM"
    logits = _logits(theirs)
    assert (logits(theirs) - logits(ours)).abs().max() <= ATOL


TABLES = {
    "gpt2": (CASES["gpt2"], {"wte": [61, 62, 63]}, True),
    "gpt_neox": (CASES["gpt_neox"], {"embed_in": [61, 62, 63], "lm_head": [61, 62, 63]}, False),
    "llama": (CASES["llama"], {"embed_tokens": [61, 62, 63], "lm_head": [61, 62, 63]}, False),
    "tied": (
        Case("LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": True}, ["q_proj"], "CAUSAL_LM"),
        {"embed_tokens": [61, 62, 63]},
        True,
    ),
}
LONGER = 64


def _longer_logits(model: Any) -> Tensor:
    ids = torch.randint(3, LONGER, (2, 15), generator=torch.Generator().manual_seed(3))
    ids[:, 4], ids[:, 9] = 61, 63
    with torch.no_grad():
        out = model(ids)
    return (out.logits if hasattr(out, "logits") else out).float()


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_new_tokens_there(kind: str, dora: bool, tmp_path: Path) -> None:
    """peft puts our rows of tokens that the base does not know on the base, once its table is long enough."""
    case, indices, tied = TABLES[kind]
    case.build(tmp_path / "base")
    ours = grown(huggingface.load(tmp_path / "base")[0], 61, LONGER).eval()
    base = _longer_logits(ours)
    how = DoRA(rank=2) if dora else LoRA(rank=2)
    how.apply(ours, Recipe("base", ours.spec), (61, 62, 63))
    torch.manual_seed(1)
    with torch.no_grad():
        for p in ours.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p) * 0.1)
    assert len(learning_rows(ours)) == (1 if tied else 2)
    save_peft(tmp_path / "adapter", ours, tmp_path / "base")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["trainable_token_indices"] == indices
    peer = case.again(tmp_path / "base")
    peer.resize_token_embeddings(LONGER, mean_resizing=False)
    theirs = peft.PeftModel.from_pretrained(peer, tmp_path / "adapter").eval()
    _same(_longer_logits(ours), _longer_logits(theirs), base)
    assert (_longer_logits(theirs.merge_and_unload()) - _longer_logits(ours)).abs().max() <= ATOL
    merge(ours)
    detach(ours)
    check = verify(tmp_path / "adapter", ours)
    assert (check.tokens, check.longer) == (3, LONGER)


@pytest.mark.parametrize("kind", TABLES)
def test_new_tokens_here(kind: str, tmp_path: Path) -> None:
    case, indices, _ = TABLES[kind]
    case.build(tmp_path / "base")
    peer = case.again(tmp_path / "base")
    peer.resize_token_embeddings(LONGER, mean_resizing=False)
    config = peft.LoraConfig(r=2, target_modules=case.some, task_type=case.task, trainable_token_indices=indices)
    theirs = peft.get_peft_model(peer, config).eval()
    torch.manual_seed(2)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if p.requires_grad and "lora_A" not in name:
                p.add_(torch.randn_like(p) * 0.3)
    theirs.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    start = huggingface.load(tmp_path / "base")[0]
    with pytest.raises(ValueError, match=r"has a row for token 63, .* ends at 60; lengthen it"):
        load_peft(start, tmp_path / "adapter")
    ours = grown(start, 61, LONGER).eval()
    base = _longer_logits(ours)
    load_peft(ours, tmp_path / "adapter")
    _same(_longer_logits(ours), _longer_logits(theirs), base)
    save_peft(tmp_path / "again", ours)
    again = grown(huggingface.load(tmp_path / "base")[0], 61, LONGER).eval()
    load_peft(again, tmp_path / "again")
    assert torch.equal(_longer_logits(again), _longer_logits(ours))
