"""Families as data: what is expressed, what is refused, and both spellings of a config."""

from pathlib import Path
from typing import Any

import pytest

from genus.export import families
from genus.parts.attention import Attention
from genus.parts.mix import ScalarMix
from genus.parts.mlp import MLP
from genus.parts.positions import Rotary, RotaryScaling
from genus.parts.task_head import Pool, TaskHead, Vectors
from genus.parts.wiring import Sandwich
from genus.recipes import find, make, names
from genus.spec import from_json, rewrite, to_json

ROOT = Path(__file__).resolve().parents[2]
TINY = {"dim": 32, "depth": 2, "heads": 4, "vocab": 61, "context": 24}
COUNTERPARTS = [n for n in names() if find(n).hf]


def change(model: Any, kind: type, **fields: Any) -> Any:
    return rewrite(model, lambda p: p.replace(**fields) if isinstance(p, kind) else p)


def kind_of(model: Any) -> str | None:
    found = families.match(model, 24)
    return found and found[0].model_type


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_a_recipe_with_a_counterpart_is_written_as_it(name: str) -> None:
    spec = make(name, **TINY).model
    family, config = families.match(spec, 24)
    assert family.model_type == config["model_type"] == find(name).hf
    again = family.read(config)
    assert families.canonical(again.model) == families.canonical(spec)
    assert find(again.name).hf == find(name).hf


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_published_sizes_are_expressed_too(name: str) -> None:
    assert kind_of(make(name).model) == find(name).hf


def test_every_family_has_a_recipe() -> None:
    assert {f.model_type for f in families.FAMILIES} == {find(n).hf for n in COUNTERPARTS}


def test_the_first_page_counts_the_families() -> None:
    count = len({f.model_type for f in families.FAMILIES})
    for page, words in (("README.md", f"for {count} model types"), ("README.zh-CN.md", f"{count} 种模型类型")):
        assert words in (ROOT / page).read_text(encoding="utf-8"), f"{page}: there are {count}"


@pytest.mark.parametrize(
    "fields",
    [
        {"kv_heads": 2, "head_dim": 16, "theta": 5e5, "eps": 1e-5, "tied": True, "bias": True},
        {"scaling": RotaryScaling(32.0, 1.0, 4.0, 8192), "theta": 5e5},
        {"dropout": 0.1},
    ],
)
def test_fields_of_llama_survive(fields: dict[str, Any]) -> None:
    spec = make("llama", **TINY, **fields).model
    family, config = families.match(spec, 24)
    assert family.model_type == "llama"
    assert families.canonical(family.read(config).model) == families.canonical(spec)


OUTSIDE = {
    "another wiring": lambda m: m.replace(stack=m.stack.replace(blocks=(m.stack.blocks[0].replace(wiring=Sandwich()),))),
    "a bias on the output alone": lambda m: change(m, Attention, out_bias=True),
    "a capped score": lambda m: change(m, Attention, score=m.stack.blocks[0].parts[0].score.replace(softcap=50.0)),
    "no gate": lambda m: change(m, MLP, gated=False),
    "an activation that transformers lacks": lambda m: change(m, MLP, act="relu2", gated=False),
    "half of each head rotated": lambda m: change(m, Rotary, share=0.5),
    "a scaled embedding": lambda m: m.replace(embed=m.embed.replace(scale=2.0)),
    "shared layers": lambda m: m.replace(stack=m.stack.replace(share=True)),
    "no final norm": lambda m: m.replace(stack=m.stack.replace(final=None)),
    "everybody sees everything": lambda m: change(m, Attention, causal=False),
    "a biased read-out": lambda m: m.replace(head=m.head.replace(bias=True)),
    "heads that do not divide the width": lambda m: change(m, Attention, heads=5, head_dim=8),
}  # fmt: skip


@pytest.mark.parametrize("what", OUTSIDE)
def test_one_difference_and_no_family_claims_the_model(what: str) -> None:
    assert kind_of(OUTSIDE[what](make("llama", **TINY).model)) is None


def test_equal_models_under_other_words() -> None:
    spec = make("llama", **TINY).model
    spelled_out = change(change(spec, Attention, kv_heads=4, head_dim=8, out_bias=False), MLP, hidden=128)
    assert families.canonical(spelled_out) == families.canonical(spec)
    assert kind_of(make("mistral", **TINY, window=None).model) == "llama"  # which it is
    assert kind_of(make("gemma2", **TINY | {"depth": 1}).model) == "gemma2"


def test_specs_read_from_json_match_as_well() -> None:
    for name in COUNTERPARTS:
        assert kind_of(from_json(to_json(make(name, **TINY).model))) == find(name).hf


LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 61,
}
SCALING = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


def read(**config: Any) -> Any:
    config = LLAMA | config
    return families.find(config).read(config)


def rotary(recipe: Any) -> Rotary:
    return recipe.model.stack.blocks[0].parts[0].position


def test_both_spellings_of_rotary_parameters() -> None:
    new = read(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, **SCALING})
    old = read(rope_theta=5e5, rope_scaling={"rope_type": "llama3", **SCALING})
    older = read(rope_theta=5e5, rope_scaling={"type": "llama3", **SCALING})
    assert rotary(new) == rotary(old) == rotary(older) == Rotary(5e5, scaling=RotaryScaling(8.0, 1.0, 4.0, 16))
    assert rotary(read(rope_scaling=None, rope_theta=123.0)) == Rotary(123.0)
    assert rotary(read()) == Rotary(10000.0)


def test_our_config_carries_both_spellings() -> None:
    spec = make("llama", **TINY, scaling=RotaryScaling(8.0, 1.0, 4.0, 16), theta=5e5).model
    _, config = families.match(spec, 24)
    old = {k: v for k, v in config.items() if k != "rope_parameters"}
    new = {k: v for k, v in config.items() if k not in ("rope_theta", "rope_scaling")}
    assert families.find(old).read(old) == families.find(new).read(new)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "lama"}, "did you mean 'llama'"),
        ({"model_type": None}, "not known"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "differ between layers"),
        ({"hidden_act": "mish"}, "mish"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"model_type": "qwen3", "use_sliding_window": True}, "use_sliding_window"),
        ({"model_type": "qwen3", "layer_types": ["sliding_attention"] * 2}, "sliding"),
        ({"model_type": "gemma2", "layer_types": ["full_attention"] * 2}, "in turn"),
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"model_type": "bloom", "apply_residual_connection_post_layernorm": True}, "apply_residual"),
        ({"model_type": "gpt2"}, "has no 'n_embd'"),
        ({"model_type": "albert", "num_hidden_groups": 2}, "num_hidden_groups"),
        ({"model_type": "bert", "tie_word_embeddings": False, "max_position_embeddings": 9}, "tie_word_embeddings=False"),
        ({"model_type": "roberta", "pad_token_id": None}, "pad_token_id"),
    ],
)
def test_what_is_not_built_is_refused_by_name(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(**config)


# ---- classes of a family


def bert(*architectures: str, **more: Any) -> Any:
    _, config = families.match(make("bert", **TINY).model, 24)
    return config | {"architectures": list(architectures)} | more


BOTH = ["cls.seq_relationship.weight", "cls.seq_relationship.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"]


@pytest.mark.parametrize(
    ("named", "tensors", "read"),
    [
        ("BertForMaskedLM", None, "BertForMaskedLM"),
        ("BertForMaskedLM", BOTH[:3], "BertForMaskedLM"),
        ("BertForMaskedLM", BOTH, "BertForPreTraining"),  # as Google's own files are
        ("BertForMaskedLM", [n.removeprefix("bert.") for n in BOTH], "BertForPreTraining"),
        ("BertForPreTraining", [], "BertForPreTraining"),
        ("BertForTokenClassification", BOTH, "BertForTokenClassification"),
        ("BertForSomethingElse", [], "BertForMaskedLM"),
    ],
)
def test_the_tensors_decide_where_the_file_names_less_than_it_holds(named: str, tensors: Any, read: str) -> None:
    assert families.find(bert(named), tensors).name == read


def test_a_bare_encoder_with_and_without_its_pooler() -> None:
    config = bert("BertModel")
    with_pooler, without = (families.find(config, names).read(config).model.head for names in (["pooler.dense.weight"], []))
    assert (with_pooler, without) == (Vectors(Pool()), Vectors())


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("bert", Pool()),
        ("albert", Pool()),
        ("distilbert", Pool(act="relu")),
        ("gpt2", Pool("last", dense=False)),
        ("qwen3", Pool("last", dense=False)),
        ("t5", Pool("last")),
        ("lstm", None),
        ("transformer-residual", None),
    ],
)
def test_how_a_family_sums_up_a_text(name: str, pool: Pool | None) -> None:
    spec = make(name, **TINY).model
    assert families.text_pool(spec) == pool
    if pool is not None:
        head = TaskHead(3, pool, bias=pool.dense)
        assert families.match(spec.replace(head=head), 24)[0].name.endswith("ForSequenceClassification")


@pytest.mark.parametrize(
    "head",
    [
        TaskHead(3, Pool("mean", dense=False)),
        TaskHead(3, Pool("first"), bias=False),
        TaskHead(3, None, bias=False),
        TaskHead(3, Pool(), mix=ScalarMix(3)),
    ],
)
def test_a_head_that_no_class_has(head: TaskHead) -> None:
    assert kind_of(make("bert", **TINY).model.replace(head=head)) is None


def test_two_tags_are_not_the_ends_of_an_answer() -> None:
    spec = make("bert", **TINY).model.replace(head=TaskHead(2, None))
    assert families.match(spec, 24, "token_classification")[0].name == "BertForTokenClassification"
    assert families.match(spec, 24, "question_answering")[0].name == "BertForQuestionAnswering"
    assert families.match(spec.replace(head=TaskHead(3, None)), 24, "question_answering") is None


def test_layers_that_share_weights_in_turn() -> None:
    """Two sets of weights in turn are not one, though their specifications are the same."""
    spec = make("albert", **TINY).model
    twice = spec.replace(stack=spec.stack.replace(blocks=spec.stack.blocks * 2))
    assert families.canonical(twice) != families.canonical(spec)
    assert families.match(twice, 24)[1]["inner_group_num"] == 2
