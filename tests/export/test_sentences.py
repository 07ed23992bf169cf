"""The layout of sentence-transformers: what it states is read, written, and refused where it is not built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from genus.export import huggingface, sentences
from genus.parts.task_head import Pool, Take, Vectors
from genus.recipes import make

SIZES = {"dim": 16, "depth": 1, "heads": 2, "vocab": 40, "context": 24}


USUAL = Vectors(Pool(), "mean", unit=True)


def saved(folder: Path, head: Vectors = USUAL, recipe: str = "bert") -> Path:
    spec = make(recipe, **SIZES).model.replace(head=head)
    huggingface.save(folder, spec.build(), spec)
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("recipe", ["bert", "transformer-residual"])
@pytest.mark.parametrize("head", [USUAL, Vectors(take="first"), Vectors(take="max", unit=True)])
def test_round_trip(tmp_path: Path, head: Vectors, recipe: str) -> None:
    saved(tmp_path, head, recipe)
    assert huggingface.load(tmp_path)[1].head == head
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BertModel" if recipe == "bert" else "GenusModel"]
    kinds = [m["type"].rpartition(".")[2] for m in json.loads((tmp_path / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", *(["Normalize"] if head.unit else [])]


def test_nothing_is_stated(tmp_path: Path) -> None:
    saved(tmp_path, Vectors(Pool()))
    assert not (tmp_path / "modules.json").exists() and sentences.files(tmp_path) == []
    assert huggingface.load(tmp_path)[1].head == Vectors(Pool())


@pytest.mark.parametrize(
    ("config", "take"),
    [
        ({"pooling_mode_cls_token": True}, "first"),
        ({"pooling_mode_max_tokens": True, "include_prompt": True}, "max"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_weightedmean_tokens": False}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": ["cls"]}, "first"),
    ],
)
def test_the_folder_has_the_last_word(tmp_path: Path, config: dict[str, Any], take: Take) -> None:
    """Not the specification that was written beside it: files may be changed, and other programs know only them."""
    saved(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
    assert huggingface.load(tmp_path)[1].head == huggingface.describe(tmp_path).model.head == Vectors(Pool(), take, unit=True)


def test_how_much_of_a_text_is_read(tmp_path: Path) -> None:
    """Less than the encoder's positions: stated, cut there, and written out again."""
    saved(tmp_path, USUAL.replace(longest=8))
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text())["max_seq_length"] == 8
    assert huggingface.load(tmp_path)[1].head == USUAL.replace(longest=8)
    for stated, longest in ((23, 23), (24, None), (512, None), (None, None)):
        change(tmp_path / "sentence_bert_config.json", max_seq_length=stated)
        assert huggingface.load(tmp_path)[1].head == USUAL.replace(longest=longest)


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True, "pooling_mode_mean_tokens": False}, "weightedmean"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "a pooling by cls and mean is not built"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": False},
            "a pooling by nothing is not built, only one of cls, mean",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "sqrt"}, "a pooling by sqrt"),
        ("sentence_bert_config.json", {"max_seq_length": "all"}, "max_seq_length is 'all', and no number of tokens"),
        ("sentence_bert_config.json", {"max_seq_length": True}, "max_seq_length is True, and no number of tokens"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "a prompt before every text"),
    ],
)
def test_what_is_not_built_is_refused(tmp_path: Path, file: str, values: dict[str, Any], words: str) -> None:
    saved(tmp_path)
    (tmp_path / "config_sentence_transformers.json").write_text("{}")
    change(tmp_path / file, **values)
    with pytest.raises(ValueError, match=rf"{words}.*without modules\.json"):
        huggingface.load(tmp_path)
    (tmp_path / "modules.json").unlink()
    assert huggingface.load(tmp_path)[1].head.pool == Pool()


def cased(folder: Path, **config: Any) -> None:
    """A tokenizer of whole words beside the model, which leaves case and accents alone."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Été", "été", "ete"]
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=False)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.save(str(folder / "tokenizer.json"))
    told = {"cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]", "bos_token": "[CLS]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told | config))


@pytest.mark.parametrize(
    ("config", "reading", "id"),
    [
        ({}, {}, 5),
        ({"do_lower_case": False}, {"do_lower_case": False}, 5),
        ({"do_lower_case": True}, {}, 7),  # accents go with the case, where nothing is said of them
        ({"do_lower_case": True, "strip_accents": False}, {}, 6),
        ({}, {"do_lower_case": True}, 6),  # every text, before the tokenizer
        ({"do_lower_case": False}, {"do_lower_case": True}, 6),
    ],
)
def test_the_case_that_the_folder_states(tmp_path: Path, config: dict[str, Any], reading: dict[str, Any], id: int) -> None:
    saved(tmp_path)
    cased(tmp_path, **config)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps(reading))
    model, spec, tokenizer = huggingface.load(tmp_path)
    assert tokenizer is not None and tokenizer.encode("Été") == tokenizer.encode("Été", special=True) == [id]
    huggingface.save(tmp_path / "again", model, spec, tokenizer)
    again = huggingface.load(tmp_path / "again")[2]
    assert again is not None and again.encode("Été") == [id]


def test_other_modules_are_refused_and_missing_ones_named(tmp_path: Path) -> None:
    saved(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (tmp_path / "modules.json").write_text(json.dumps([*modules[:2], dense]))
    with pytest.raises(ValueError, match="its modules are Transformer, Pooling, Dense; only"):
        huggingface.load(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"1_Pooling/config\.json cannot be read.*with its subfolders"):
        huggingface.load(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(modules[:1]))  # an encoder alone
    assert huggingface.load(tmp_path)[1].head.pool == Pool()
