"""`genus export` and `genus import`, there and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from genus import cli
from genus.cli import import_
from genus.export import huggingface
from genus.parts.task_head import Pool, TaskHead
from genus.recipes import make
from genus.run import Run, load
from genus.spec import to_json

CONFIG = {"data": {"fingerprint": "abc123"}, "seed": 7, "finished": {"steps": 40, "tokens": 5120, "validation": {"bpb": 1.5}}}


def genus(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    assert cli.main([str(w) for w in words]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


@pytest.fixture
def run(tmp_path: Path, shared_data: Path) -> Path:
    """A run of an untrained llama with the tokenizer of a real one."""
    from genus.modalities.text import Tokenizer

    recipe = make("llama", dim=32, depth=2, heads=4, vocab=512, context=24)
    made = Run.create(tmp_path / "run", CONFIG | {"recipe": to_json(recipe)})
    tokenizer = Tokenizer.load(shared_data / "stories260K" / "hf")
    huggingface.save(made.model_dir, recipe.model.build(0), recipe, tokenizer)
    return made.path


def same_weights(a: Any, b: Any) -> bool:
    return all(torch.equal(p, b.model.get_parameter(n)) for n, p in a.model.named_parameters())


def test_a_run_becomes_a_folder_and_a_run_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = genus(capsys, "export", run, "-o", tmp_path / "out")
    assert "llama, " in said and "parameters, fp32" in said
    assert "tensors read back equal; same logits on" in said
    assert f'AutoModelForCausalLM.from_pretrained("{tmp_path / "out"}")' in said
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| data fingerprint | abc123 |" in card and "| tokens seen | 5,120 |" in card and "| 1.5000 |" in card
    said = genus(capsys, "import", tmp_path / "out", "-o", tmp_path / "again")
    assert "llama" in said and "vocab_size=512" in said
    before, after = load(run), load(tmp_path / "again")
    assert before.spec == after.spec
    assert same_weights(before, after)
    assert after.config["recipe"]["name"] == "llama"
    assert after.config["recipe"]["training"]["context"] == 24
    assert before.tokenizer.encode("Once upon a time") == after.tokenizer.encode("Once upon a time")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "out", "run"]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_precision_is_chosen_on_export_and_kept_on_import(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    said = genus(capsys, "export", run, "-o", tmp_path / "out", "--dtype", dtype)
    assert f"rounding to {dtype} moves the logits" in said
    genus(capsys, "import", tmp_path / "out", "-o", tmp_path / "again")
    assert huggingface.stored_dtype(tmp_path / "again" / "model") == dtype
    assert same_weights(load(tmp_path / "out"), load(tmp_path / "again"))


def test_files_of_a_real_model_are_handed_on_untouched(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shared_data / "stories260K" / "hf"
    genus(capsys, "import", source, "-o", tmp_path / "run")
    genus(capsys, "export", tmp_path / "run", "-o", tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    assert same_weights(load(source), load(tmp_path / "out"))


def test_a_chat_template_and_generation_settings_travel(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = '{"eos_token_id": [2, 5], "temperature": 0.6}'
    (run / "model" / "chat_template.jinja").write_text("{{ bos_token }}{{ messages }}")
    (run / "model" / "generation_config.json").write_text(settings)
    genus(capsys, "export", run, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ bos_token }}{{ messages }}"
    assert (tmp_path / "out" / "generation_config.json").read_text() == settings


def test_a_damaged_write_leaves_nothing_behind(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = huggingface.write_weights

    def spoil(folder: Path, tensors: dict[str, torch.Tensor], size: int) -> list[str]:
        return honest(folder, {n: t + 1e-3 for n, t in tensors.items()}, size)

    monkeypatch.setattr(huggingface, "write_weights", spoil)
    assert "was not written as it is" in genus(capsys, "export", run, "-o", tmp_path / "out", status=2)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_ngrams_go_to_arpa_and_nothing_else_does(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from genus.parts.ngram import NGram

    assert "not an n-gram" in genus(capsys, "export", run, "-o", tmp_path / "a.arpa", "--to", "arpa", status=2)
    model = NGram(order=2, vocab=9).build()
    huggingface.save(tmp_path / "counted", model, model.spec)
    assert "2-gram" in genus(capsys, "export", tmp_path / "counted", "-o", tmp_path / "a.arpa", "--to", "arpa")
    assert "\\data\\" in (tmp_path / "a.arpa").read_text()
    said = genus(capsys, "export", tmp_path / "counted", "-o", tmp_path / "copy")
    assert "genus_ngram" in said and "transformers has no such model" in said


def test_nothing_is_overwritten(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert "exists already" in genus(capsys, "export", run, "-o", tmp_path / "out", status=2)
    assert "already holds a run" in genus(capsys, "import", run / "model", "-o", run, status=2)


# ---- the Hub


def test_a_name_on_the_hub_is_downloaded(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.update(options, repo_id=repo_id)
        return str(run / "model")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    genus(capsys, "import", "some-org/some.model", "-o", tmp_path / "new", "--revision", "v2")
    assert asked["repo_id"] == "some-org/some.model" and asked["revision"] == "v2"
    assert not any(pattern.endswith(("bin", "py")) for pattern in asked["allow_patterns"])
    assert same_weights(load(run), load(tmp_path / "new"))
    config = json.loads((tmp_path / "new" / "run.json").read_text())
    assert (config["source"], config["revision"], config["imported"]) == ("some-org/some.model", "v2", "llama")


def test_without_a_network_the_remedy_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = genus(capsys, "import", "no-such-org/no-such-model", "-o", tmp_path / "new", status=2)
    assert "could not be downloaded from the Hugging Face Hub" in said and "give the folder" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "/no/such/folder", "./x"])
def test_what_is_no_name_is_not_asked_for(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(FileNotFoundError, match="neither a folder nor a name"):
        import_.fetch(source)


def test_a_tuned_model_keeps_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make("distilbert", dim=32, depth=2, heads=4, vocab=61, context=24).model
    spec = spec.replace(head=TaskHead(2, Pool(act="relu")))
    huggingface.save(tmp_path / "tuned", spec.build(0), spec, labels=("bad", "good"))
    said = genus(capsys, "import", tmp_path / "tuned", "-o", tmp_path / "run")
    assert "for single label classification: bad, good" in said
    assert f"next: genus tune {tmp_path / 'run'} LABELS" in said
    assert load(tmp_path / "run").labels.names == ("bad", "good")
    said = genus(capsys, "export", tmp_path / "run", "-o", tmp_path / "out", "--dtype", "bf16")
    assert f'AutoModelForSequenceClassification.from_pretrained("{tmp_path / "out"}")' in said
    assert load(tmp_path / "out").labels.names == ("bad", "good")
    assert "pipeline_tag: text-classification" in (tmp_path / "out" / "README.md").read_text()
