"""Special tokens between a tokenizer, its model's config.json, and transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Core
from tokenizers import models, pre_tokenizers

from genus.export import huggingface
from genus.export.tokens import read_tokenizer
from genus.modalities.text import Tokenizer
from genus.parts.task_head import Pool, TaskHead

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer(*special: str, **config: str) -> Tokenizer:
    """One token a letter, after the special tokens."""
    core = Core(models.WordLevel({t: i for i, t in enumerate([*special, *LETTERS])}, unk_token=special[0]))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.add_special_tokens(list(special))
    return Tokenizer(core, config)


def written(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())


def test_a_decoder_that_is_to_judge_gets_a_padding_token(tiny: Any, tmp_path: Path) -> None:
    """transformers looks for the last token before the padding, and refuses batches without one."""
    transformers = pytest.importorskip("transformers")
    plain = tokenizer("<|endoftext|>")
    assert plain.role("pad") is None
    spec = tiny("gpt2")[0].model.replace(head=TaskHead(3, Pool("last", dense=False), bias=False))
    model = spec.build(0).eval()
    huggingface.save(tmp_path, model, spec, plain)
    assert written(tmp_path)["pad_token_id"] == 0
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    both = transformers.AutoTokenizer.from_pretrained(tmp_path)(["abc", "abcdefgh"], padding=True, return_tensors="pt")
    assert both["input_ids"].tolist() == [[1, 2, 3, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8]]
    with torch.no_grad():
        outputs = peer(input_ids=both["input_ids"], attention_mask=both["attention_mask"]).logits
        assert torch.allclose(outputs, model(both["input_ids"], both["attention_mask"] - 1), atol=1e-5)
        assert torch.allclose(outputs[:1], model(both["input_ids"][:1, :3]), atol=1e-5)


def test_its_own_padding_token_is_kept(tiny: Any, tmp_path: Path) -> None:
    spec = tiny("gpt2")[0].model.replace(head=TaskHead(3, Pool("last", dense=False), bias=False))
    huggingface.save(tmp_path, spec.build(0), spec, tokenizer("<|endoftext|>", "[PAD]", pad_token="[PAD]"))
    assert written(tmp_path)["pad_token_id"] == 1


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2"])
def test_pairs_are_given_segment_types_where_the_model_has_them(tiny: Any, tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    ours = tokenizer("<|endoftext|>").extended(["cls", "sep", "mask", "pad"])
    spec = tiny(name)[0].model.replace(head=TaskHead(2, None))
    model = spec.build(0).eval()
    huggingface.save(tmp_path, model, spec, ours)
    given = transformers.AutoTokenizer.from_pretrained(tmp_path)("abc", "de", return_tensors="pt")
    ids, types = ours.frame("abc", "de")
    assert given["input_ids"].tolist() == [ids]
    assert ("token_type_ids" in given) == (name == "bert")
    peer = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ids]), types=torch.tensor([types]) if name == "bert" else None)
        assert torch.allclose(peer(**given).logits, expected, atol=1e-5)


def test_a_language_model_gets_none(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("gpt2")
    huggingface.save(tmp_path, model, recipe, tokenizer("<|endoftext|>"))
    assert "pad_token_id" not in written(tmp_path)
    assert huggingface.load(tmp_path)[2].role("pad") is None


def test_roberta_counts_positions_by_the_padding_token(tiny: Any, tmp_path: Path) -> None:
    """Its class skips that id wherever it stands; with another tokenizer the positions would be wrong."""
    recipe, model = tiny("roberta")
    fitting = tokenizer("<s>", "<pad>", "</s>", pad_token="<pad>")
    other = tokenizer("<s>", "</s>", "<pad>", pad_token="<pad>")
    assert huggingface.save(tmp_path / "fitting", model, recipe, fitting) == "roberta"
    assert written(tmp_path / "fitting")["pad_token_id"] == 1
    assert huggingface.save(tmp_path / "other", model, recipe, other) == "genus"
    assert huggingface.save(tmp_path / "none", model, recipe) == "roberta"


def test_t5_begins_with_what_its_tokenizer_begins_with(tiny: Any, tmp_path: Path) -> None:
    """The first T5 begins a decoder's text with its padding token, and its tokenizer does not say so."""
    recipe, model = tiny("t5")
    theirs = tokenizer("<pad>", "</s>", "<unk>", pad_token="<pad>", eos_token="</s>")
    assert theirs.bos_id == 1
    huggingface.save(tmp_path, model, recipe)
    theirs.core.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(theirs.config))
    _, _, read = huggingface.load(tmp_path)
    assert (read.bos_id, read.eos_id, read.role("pad")) == (0, 1, 0)
    ours = tokenizer("<|endoftext|>", "[PAD]", pad_token="[PAD]")
    huggingface.save(tmp_path / "ours", model, recipe, ours)
    generation = json.loads((tmp_path / "ours" / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 0}


def test_config_tells_the_padding_token_where_the_tokenizer_does_not(tmp_path: Path) -> None:
    tokenizer("<|endoftext|>").core.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path, {"pad_token_id": 3}).role("pad") == 3
    assert read_tokenizer(tmp_path, {"pad_token_id": -1}).role("pad") is None
    assert read_tokenizer(tmp_path, {"pad_token_id": 999}).role("pad") is None
    assert read_tokenizer(tmp_path / "nothing", {}) is None


def test_a_vocabulary_that_is_no_word_piece(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"has no \[UNK\].*is it the vocabulary of a WordPiece tokenizer"):
        read_tokenizer(tmp_path, {})
