"""An export that is not the model is found out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from genus.export import huggingface
from genus.export.verify import verify
from genus.parts.ngram import NGram
from genus.parts.task_head import TaskHead, Vectors


@pytest.mark.parametrize("name", ["llama", "lstm", "bert", "t5", "transformer"])
def test_a_good_export_passes(tiny: Any, tmp_path: Path, name: str) -> None:
    recipe, model = tiny(name)
    huggingface.save(tmp_path, model, recipe)
    check = verify(tmp_path, model, recipe.model, None)
    assert (check.tensors, check.difference, check.agree) == (len(list(model.parameters())), 0.0, 1.0)
    assert check.tokens > 0


@pytest.mark.parametrize("head", [TaskHead(3), TaskHead(3, None), Vectors()])
@pytest.mark.parametrize("name", ["bert", "t5", "lstm"])
def test_a_task_is_compared_as_well(tiny: Any, tmp_path: Path, name: str, head: Any) -> None:
    spec = tiny(name)[0].model.replace(head=head)
    model = spec.build(0)
    huggingface.save(tmp_path, model, spec)
    assert verify(tmp_path, model, spec, None).difference == 0.0


def test_rounding_is_measured_and_not_taken_for_damage(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("llama")
    huggingface.save(tmp_path, model, recipe, dtype="bf16")
    assert 0 < verify(tmp_path, model, recipe.model, None, "bf16").difference < 1
    with pytest.raises(ValueError, match="was not written as it is"):
        verify(tmp_path, model, recipe.model, None, "fp32")


def test_one_changed_number_is_found(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("gpt2")
    huggingface.save(tmp_path, model, recipe)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["transformer.h.1.attn.c_attn.weight"][3, 50] += 1e-3
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"parts\.0\.k_proj\.weight"):
        verify(tmp_path, model, recipe.model, None)


def test_another_tokenizer_is_found(tiny: Any, tmp_path: Path, shared_data: Path) -> None:
    from genus.modalities.text import Tokenizer

    recipe, model = tiny("llama", vocab=512)
    tokenizer = Tokenizer.load(shared_data / "stories260K" / "hf")
    huggingface.save(tmp_path, model, recipe)
    with pytest.raises(ValueError, match="tokenizer"):
        verify(tmp_path, model, recipe.model, tokenizer)


def test_ngrams_are_compared_too(tmp_path: Path) -> None:
    model = NGram(order=3, vocab=12).build()
    huggingface.save(tmp_path, model, model.spec)
    assert verify(tmp_path, model, model.spec, None).difference == 0.0
    with torch.no_grad():
        model.log_probs_1[3] += 1
    with pytest.raises(ValueError, match="log_probs_1"):
        verify(tmp_path, model, model.spec, None)
