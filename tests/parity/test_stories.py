"""A real checkpoint: a LLaMA of 260,032 parameters that was trained on children's stories."""

import json
from pathlib import Path

import pytest
import torch

from genus.export import huggingface


@pytest.fixture
def folder(shared_data: Path) -> Path:
    path = shared_data / "stories260K" / "hf"
    if not path.is_dir():
        pytest.skip(f"no {path}")
    return path


def test_greedy_text(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    model, spec, tokenizer = huggingface.load(folder)
    assert spec.parameters() == sum(p.numel() for p in model.parameters()) == 260_032
    prompt = [tokenizer.bos_id, *tokenizer.encode(expected["prompt"])]
    assert prompt == expected["prompt_ids"]
    ids = torch.tensor([prompt])
    with torch.no_grad():
        first = model(ids)[0, -1, :8]
        for _ in expected["greedy_ids"]:
            ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], dim=1)
    assert torch.allclose(first, torch.tensor(expected["logits_last_prompt_first8"]), atol=1e-4)
    assert ids[0, len(prompt) :].tolist() == expected["greedy_ids"]
    assert tokenizer.decode(ids[0].tolist()) == expected["text"]


def test_likelihood_of_a_story(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    model, _, _ = huggingface.load(folder)
    ids = torch.tensor([expected["story_ids"]])
    with torch.no_grad():
        score = model.score(ids[:, :-1], ids[:, 1:])
    assert -score.mean().item() == pytest.approx(expected["story_nll"], abs=1e-5)


def test_same_logits_as_transformers(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    model, _, _ = huggingface.load(folder)
    ids = torch.randint(3, 512, (2, 200))
    with torch.no_grad():
        assert (model(ids) - peer(ids).logits).abs().max() <= 1e-4
