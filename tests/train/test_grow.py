"""A larger vocabulary changes nothing about the tokens that were there."""

import pytest
import torch

import genus
from genus.export import huggingface
from genus.train.grow import grown

SIZES = {"dim": 32, "depth": 2, "heads": 2, "vocab": 50, "context": 32}


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "lstm", "t5"])
def test_known_tokens_keep_their_scores_and_new_ones_are_average(name: str) -> None:
    spec = genus.recipe(name, **SIZES).model
    torch.manual_seed(0)
    old = spec.build(0).eval()
    new = grown(old, 50, 53).eval()
    ids = torch.randint(0, 50, (2, 12))
    given = {"source": ids} if spec.encoder else {}
    before, after = old(ids, **given), new(ids, **given)
    assert torch.allclose(before, after[..., :50], atol=1e-6) and after.shape[-1] == 53
    if new.spec.head.bias is False and new.spec.head.transform is None:
        assert torch.allclose(after[..., 50], before.mean(-1), atol=1e-5)
    assert sum(p.numel() for p in new.parameters()) == new.spec.parameters(0)


def test_rows_to_spare_are_used() -> None:
    spec = genus.recipe("llama", **SIZES).model
    old = spec.build(0)
    new = grown(old, 40, 45)
    assert new.spec.embed.vocab == 50
    assert torch.equal(new.embed.tokens.weight[:40], old.embed.tokens.weight[:40])
    assert torch.allclose(new.embed.tokens.weight[43], old.embed.tokens.weight[:40].mean(0))


def test_a_grown_model_is_of_its_family(tmp_path) -> None:  # type: ignore[no-untyped-def]
    spec = genus.recipe("llama", **SIZES).model
    new = grown(spec.build(0), 50, 52)
    assert huggingface.save(tmp_path, new, new.spec, context=32) == "llama"
    model, read, _ = huggingface.load(tmp_path)
    assert read.embed.vocab == 52 and torch.equal(model.head.weight, new.head.weight)
