"""Models without a counterpart: the bundled adapter lets transformers open and run them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from genus.export import huggingface
from genus.recipes import find, names

transformers = pytest.importorskip("transformers")
WITHOUT_COUNTERPART = [n for n in names() if find(n).generates and not find(n).counted and not find(n).hf]


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # transformers copies the adapter into a cache of modules
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def opened(folder: Path) -> Any:
    line = huggingface.opener(huggingface.read_config(folder), str(folder))
    assert line is not None
    scope: dict[str, Any] = {}
    exec(line, scope)  # the very line that the user is told
    return scope["model"]


@pytest.mark.parametrize("name", WITHOUT_COUNTERPART)
def test_same_logits(tiny: Any, tmp_path: Path, name: str) -> None:
    recipe, model = tiny(name)
    assert huggingface.save(tmp_path / "m", model, recipe) == "genus"
    peer = opened(tmp_path / "m")
    ids = torch.randint(3, 61, (2, 16))
    with torch.no_grad():
        assert torch.equal(peer(ids).logits, model(ids))
    assert sum(p.numel() for p in peer.parameters()) == recipe.parameters_total


@pytest.mark.parametrize("name", ["lstm", "transformer-residual"])
def test_generate_padding_loss_and_saving_again(tiny: Any, tmp_path: Path, name: str) -> None:
    recipe, model = tiny(name)
    huggingface.save(tmp_path / "m", model, recipe)
    peer = opened(tmp_path / "m")
    ids = torch.randint(3, 61, (2, 10))
    greedy = ids
    with torch.no_grad():
        for _ in range(5):
            greedy = torch.cat([greedy, model(greedy)[:, -1:].argmax(-1)], dim=1)
        assert torch.equal(peer.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0), greedy)
        mask = torch.ones_like(ids)
        mask[0, :4] = 0
        padded = peer(ids, attention_mask=mask).logits
        assert torch.allclose(padded[0, 4:], model(ids[:1, 4:])[0], atol=1e-5)
        expected = -model.score(ids[:, :-1], ids[:, 1:]).mean()
        assert torch.allclose(peer(ids, labels=ids).loss, expected, atol=1e-5)
    peer.save_pretrained(tmp_path / "again")
    again, spec, _ = huggingface.load(tmp_path / "again")
    assert spec == recipe.model
    assert all(torch.equal(p, again.get_parameter(n)) for n, p in model.named_parameters())


def test_an_encoder_decoder_of_our_own_promises_nothing(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("transformer")
    huggingface.save(tmp_path, model, recipe)
    config = huggingface.read_config(tmp_path)
    assert "auto_map" not in config
    assert huggingface.opener(config) is None
