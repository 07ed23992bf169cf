"""Models without a counterpart: the bundled adapter lets transformers open and run them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from genus.export import huggingface
from genus.parts.task_head import Pool, TaskHead, Vectors
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


@torch.no_grad()
@pytest.mark.parametrize("name", ["transformer", "rnnsearch"])
def test_a_text_from_another(tiny: Any, tmp_path: Path, name: str) -> None:
    recipe, model = tiny(name)
    assert huggingface.save(tmp_path / "m", model, recipe) == "genus"
    peer = opened(tmp_path / "m")
    assert type(peer).__name__ == "GenusForSeq2SeqLM"
    source, labels = torch.randint(3, 61, (2, 10)), torch.randint(3, 61, (2, 6))
    mask = torch.ones_like(source)
    mask[1, 7:] = 0
    begun = torch.cat([torch.zeros(2, 1, dtype=torch.long), labels[:, :-1]], dim=1)
    found, expected = peer(source, mask, labels=labels), model(begun, source=source, source_doc=mask - 1)
    assert torch.equal(found.logits, expected)
    assert torch.allclose(found.loss, torch.nn.functional.cross_entropy(expected.flatten(0, 1), labels.flatten()))
    greedy = torch.zeros(2, 1, dtype=torch.long)
    for _ in range(5):
        greedy = torch.cat([greedy, model(greedy, source=source, source_doc=mask - 1)[:, -1:].argmax(-1)], dim=1)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(peer.generate(source, attention_mask=mask, **options), greedy)
    assert peer.generate(source, attention_mask=mask, num_beams=3, **options).shape == greedy.shape


def test_an_encoder_decoder_for_a_task_promises_nothing(tiny: Any, tmp_path: Path) -> None:
    spec = tiny("transformer")[0].model.replace(head=TaskHead(3, Pool("last")))
    huggingface.save(tmp_path, spec.build(0), spec)
    config = huggingface.read_config(tmp_path)
    assert "auto_map" not in config
    assert huggingface.opener(config) is None
    assert huggingface.load(tmp_path)[1] == spec


HEADS = {
    "SequenceClassification": TaskHead(3, Pool("mean", dense=False)),
    "TokenClassification": TaskHead(3, None),
    "QuestionAnswering": TaskHead(2, None),
    "": Vectors(),
}
PROBLEMS = {"QuestionAnswering": "question_answering"}


def tuned(tiny: Any, name: str, task: str, folder: Path, **more: Any) -> tuple[Any, Any]:
    """A model of a recipe with the head of a task, and the same as transformers opens it."""
    spec = tiny(name)[0].model.replace(head=HEADS[task])
    model = spec.build(0).eval()
    assert huggingface.save(folder, model, spec, problem=PROBLEMS.get(task), **more) == "genus"
    return model, opened(folder)


@torch.no_grad()
@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("name", ["lstm", "transformer-residual", "elmo"])
def test_a_task(tiny: Any, tmp_path: Path, name: str, task: str) -> None:
    model, peer = tuned(tiny, name, task, tmp_path / "m")
    ids = torch.randint(3, 61, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    found = peer(ids, attention_mask=mask)
    expected = model(ids, mask - 1)
    logits = torch.stack([found.start_logits, found.end_logits], -1) if task == "QuestionAnswering" else found[0]
    assert torch.equal(logits, expected)
    assert type(peer).__name__ == ("GenusFor" + task if task else "GenusModel")
    again, spec, _ = huggingface.load(tmp_path / "m")
    assert spec == model.spec
    assert torch.equal(again(ids, mask - 1), expected)
    assert huggingface.labels_of(tmp_path / "m").problem == {
        "SequenceClassification": "single_label_classification",
        "TokenClassification": "token_classification",
        "QuestionAnswering": "question_answering",
        "": None,
    }[task]  # fmt: skip


def test_names_of_the_labels_and_losses(tiny: Any, tmp_path: Path) -> None:
    model, peer = tuned(tiny, "lstm", "SequenceClassification", tmp_path / "a" / "m", labels=("no", "perhaps", "yes"))
    assert peer.config.id2label == {0: "no", 1: "perhaps", 2: "yes"}
    assert peer.config.label2id == {"no": 0, "perhaps": 1, "yes": 2}
    ids, labels = torch.randint(3, 61, (2, 9)), torch.tensor([2, 0])
    loss = torch.nn.functional.cross_entropy
    assert torch.allclose(peer(ids, labels=labels).loss, loss(model(ids), labels))
    model, peer = tuned(tiny, "lstm", "TokenClassification", tmp_path / "b" / "m")
    tags = torch.randint(0, 3, (2, 9))
    assert torch.allclose(peer(ids, labels=tags).loss, loss(model(ids).flatten(0, 1), tags.flatten()))
    model, peer = tuned(tiny, "lstm", "QuestionAnswering", tmp_path / "c" / "m")
    begin, end = torch.tensor([1, 2]), torch.tensor([4, 5])
    both = loss(model(ids)[..., 0], begin) + loss(model(ids)[..., 1], end)
    assert torch.allclose(peer(ids, start_positions=begin, end_positions=end).loss, both / 2)


def test_a_masked_language_model(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("bert", types=0)  # transformers' own wants at least one segment type
    assert huggingface.save(tmp_path / "m", model, recipe) == "genus"
    peer = opened(tmp_path / "m")
    ids = torch.randint(3, 61, (2, 9))
    assert type(peer).__name__ == "GenusForMaskedLM"
    assert torch.equal(peer(ids).logits, model(ids))
