"""Model folders: what is written is read back bit for bit, and every name is accounted for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from genus.export import huggingface
from genus.export.weights import INDEX, SINGLE
from genus.parts.ngram import NGram
from genus.parts.task_head import Vectors
from genus.recipes import find, make, names

NEURAL = [n for n in names() if not find(n).counted]


def identical(a: Any, b: Any) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def edit(folder: Path, change: Any) -> None:
    """Rewrite the tensors of a folder."""
    tensors = load_file(folder / SINGLE)
    save_file({n: t.contiguous() for n, t in change(tensors).items()}, folder / SINGLE)


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


@pytest.mark.parametrize("name", NEURAL)
def test_every_recipe_comes_back_identical(tiny: Any, tmp_path: Path, name: str) -> None:
    recipe, model = tiny(name)
    assert huggingface.save(tmp_path, model, recipe) == (find(name).hf or "genus")
    again, spec, tokenizer = huggingface.load(tmp_path)
    assert spec == recipe.model == again.spec
    assert tokenizer is None
    assert identical(model, again)
    assert (again.head.weight is again.embed.tokens.weight) == spec.head.tied
    told = huggingface.describe(tmp_path)
    assert (told.model, told.name) == (spec, name)
    assert told.training.context == recipe.training.context


def test_training_only_fields_survive_in_our_own_files(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("llama", dropout=0.25)
    recipe = recipe.replace(model=recipe.model.replace(init=recipe.model.init.replace(std=0.5)))
    model.spec = recipe.model
    huggingface.save(tmp_path, model, recipe)
    assert huggingface.load(tmp_path)[1] == recipe.model


def test_an_edited_config_wins_over_our_note(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("llama")
    huggingface.save(tmp_path, model, recipe)
    configure(tmp_path, rms_norm_eps=0.5)
    assert huggingface.load(tmp_path)[1].stack.final.eps == 0.5


@pytest.mark.parametrize(("dtype", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_lower_precision_is_rounded_once_and_read_as_float32(tiny: Any, tmp_path: Path, dtype: str, kind: Any) -> None:
    recipe, model = tiny("gpt-neox")
    huggingface.save(tmp_path, model, recipe, dtype=dtype)
    assert {t.dtype for t in load_file(tmp_path / SINGLE).values()} == {kind}
    assert huggingface.stored_dtype(tmp_path) == dtype
    again, _, _ = huggingface.load(tmp_path)
    for name, p in model.named_parameters():
        other = again.get_parameter(name)
        assert other.dtype == torch.float32
        assert torch.equal(other, p.to(kind).float())


def test_shards(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("mixtral")
    huggingface.save(tmp_path, model, recipe, shard_bytes=20_000)
    assert (tmp_path / INDEX).is_file()
    assert identical(model, huggingface.load(tmp_path)[0])


def test_loading_leaves_the_random_state_alone(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("gpt2")
    huggingface.save(tmp_path, model, recipe)
    before = torch.get_rng_state()
    huggingface.load(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_the_folder_is_complete_when_it_has_a_config(tiny: Any, tmp_path: Path, monkeypatch: Any) -> None:
    recipe, model = tiny("gpt2")

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(huggingface, "write_weights", full)
    with pytest.raises(OSError, match="no space"):
        huggingface.save(tmp_path, model, recipe)
    assert not (tmp_path / "config.json").exists()


# ---- names, strict both ways


@pytest.mark.parametrize("name", ["llama", "lstm"])
def test_missing_unexpected_and_wrong_shape_are_all_listed(tiny: Any, tmp_path: Path, name: str) -> None:
    recipe, model = tiny(name)
    huggingface.save(tmp_path, model, recipe)
    first, second, *_ = sorted(load_file(tmp_path / SINGLE))

    def spoil(t: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        t["a.stranger"] = torch.zeros(2)
        del t[first]
        t[second] = torch.zeros(3)
        return t

    edit(tmp_path, spoil)
    with pytest.raises(ValueError, match="names matched") as error:
        huggingface.load(tmp_path)
    text = str(error.value)
    assert f"missing (1): {first}" in text
    assert "unexpected (1): a.stranger" in text
    assert f"wrong shape or type (1): {second} (3,)" in text


def test_integers_are_not_weights(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("llama")
    huggingface.save(tmp_path, model, recipe)
    edit(tmp_path, lambda t: t | {"model.norm.weight": t["model.norm.weight"].to(torch.int8)})
    with pytest.raises(ValueError, match=r"model\.norm\.weight \(32,\) torch\.int8"):
        huggingface.load(tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "gpt1", "bloom", "llama"])
def test_a_tied_read_out_may_be_stored_twice_if_it_is_the_same(tiny: Any, tmp_path: Path, name: str) -> None:
    recipe, model = tiny(name, **({"tied": True} if name == "llama" else {}))
    huggingface.save(tmp_path, model, recipe)
    table = next(n for n, t in load_file(tmp_path / SINGLE).items() if t.shape == (61, 32))
    edit(tmp_path, lambda t: t | {"lm_head.weight": t[table].clone()})
    assert identical(model, huggingface.load(tmp_path)[0])
    edit(tmp_path, lambda t: t | {"lm_head.weight": t[table] + 1})
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        huggingface.load(tmp_path)


def test_the_first_gpt2_files_have_masks_and_no_prefix(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("gpt2")
    huggingface.save(tmp_path, model, recipe)

    def old(t: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        t = {n.removeprefix("transformer."): v for n, v in t.items()}
        return t | {f"h.{i}.attn.bias": torch.ones(1, 1, 24, 24).tril() for i in range(2)}

    edit(tmp_path, old)
    assert identical(model, huggingface.load(tmp_path)[0])


def test_tables_of_angles_are_ignored(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("llama")
    huggingface.save(tmp_path, model, recipe)
    edit(tmp_path, lambda t: t | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    assert identical(model, huggingface.load(tmp_path)[0])


def test_the_first_bert_files(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("bert", sentences=False)
    huggingface.save(tmp_path, model, recipe)

    def old(t: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        t = {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for n, v in t.items()
        }
        more = {"bert.pooler.dense.weight": torch.zeros(32, 32), "cls.seq_relationship.bias": torch.zeros(2)}
        return t | more | {"cls.predictions.decoder.weight": t["bert.embeddings.word_embeddings.weight"].clone()}

    edit(tmp_path, old)
    assert identical(model, huggingface.load(tmp_path)[0])


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_a_bare_encoder_is_told_apart(tiny: Any, tmp_path: Path, prefix: str) -> None:
    recipe, model = tiny("bert", sentences=False)
    huggingface.save(tmp_path, model, recipe)
    edit(tmp_path, lambda t: {prefix + n.removeprefix("bert."): v for n, v in t.items() if not n.startswith("cls.")})
    with pytest.raises(ValueError, match=r'a bare bert without the head that BertForMaskedLM has; .*\["BertModel"\]'):
        huggingface.load(tmp_path)
    configure(tmp_path, architectures=["BertModel"])
    bare, spec, _ = huggingface.load(tmp_path)
    assert spec.head == Vectors()
    ids = torch.randint(0, 61, (2, 9))
    assert torch.equal(bare(ids), model.hidden(ids))


def test_t5_tables_may_be_repeated_under_each_stack(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("t5")
    huggingface.save(tmp_path, model, recipe)
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    edit(tmp_path, lambda t: t | {n: t["shared.weight"].clone() for n in copies})
    assert identical(model, huggingface.load(tmp_path)[0])


def test_experts_in_one_tensor(tiny: Any, tmp_path: Path) -> None:
    """The layout that transformers 5 holds in memory; some tools save it as it is."""
    recipe, model = tiny("mixtral")
    huggingface.save(tmp_path, model, recipe)

    def fuse(t: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for i in range(2):
            old, new = f"model.layers.{i}.block_sparse_moe.", f"model.layers.{i}.mlp."
            w1, w2, w3 = ([t.pop(f"{old}experts.{e}.w{k}.weight") for e in range(8)] for k in (1, 2, 3))
            gates = [torch.cat(pair) for pair in zip(w1, w3, strict=True)]
            t[new + "experts.gate_up_proj"], t[new + "experts.down_proj"] = torch.stack(gates), torch.stack(w2)
            t[new + "gate.weight"] = t.pop(old + "gate.weight")
        return t

    edit(tmp_path, fuse)
    assert identical(model, huggingface.load(tmp_path)[0])


# ---- what is not a model


def test_a_model_that_was_not_built_from_the_spec(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("gpt2")
    with pytest.raises(ValueError, match="another spec"):
        huggingface.save(tmp_path, model, make("llama").model)
    with pytest.raises(ValueError, match="fp8"):
        huggingface.save(tmp_path, model, recipe, dtype="fp8")


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        huggingface.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama",')
    with pytest.raises(ValueError, match="not JSON"):
        huggingface.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        huggingface.load(tmp_path)


# ---- what goes along


def test_tokenizer_template_and_card(tiny: Any, tmp_path: Path, shared_data: Path) -> None:
    from genus.modalities.text import Tokenizer

    tokenizer = Tokenizer.load(shared_data / "stories260K" / "hf")
    tokenizer.chat_template = "{{ messages }}"
    recipe, model = tiny("llama", vocab=512)
    huggingface.save(tmp_path, model, recipe, tokenizer, notes="## Training\n\non stories")
    _, _, again = huggingface.load(tmp_path)
    assert again.encode("Once upon a time") == tokenizer.encode("Once upon a time")
    assert (again.bos_id, again.eos_id, again.chat_template) == (1, 2, "{{ messages }}")
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"bos_token_id": 1, "eos_token_id": 2}
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["max_position_embeddings"]) == (1, 2, 24)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-generation\n")
    for words in ("arXiv:2302.13971", "AutoModelForCausalLM", "on stories", f"{recipe.parameters_total:,} parameters"):
        assert words in card


def test_an_ngram_keeps_its_own_layout(tmp_path: Path) -> None:
    model = NGram(order=2, vocab=10).build()
    assert huggingface.save(tmp_path, model, model.spec) == "genus_ngram"
    again, spec, _ = huggingface.load(tmp_path)
    assert spec == model.spec
    ids = torch.randint(0, 10, (1, 7))
    assert torch.equal(again(ids), model(ids))
    assert huggingface.describe(tmp_path).model == spec
    assert "library_name: genus" in (tmp_path / "README.md").read_text()
