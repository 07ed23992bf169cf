"""`genus export --to peft`."""

import json
from pathlib import Path

import pytest
import torch

from genus import cli
from genus.export import huggingface
from genus.parts.task_head import TaskHead
from genus.prepare.tokenizer import bytes_tokenizer
from genus.recipes import make
from genus.run import Run
from genus.spec import to_json
from genus.tune.adapters import adapted
from genus.tune.adapters.peft import load_peft
from genus.tune.methods import LoRA
from genus.tune.options import TuneOptions
from genus.tune.tasks.classification import Classification
from genus.tune.tuning import tune

LORA = {"method": "lora", "rank": 2, "seeds": 1, "epochs": 10, "batch": 1, "refit": False, "lr": 3e-3, "dtype": "fp32"}


def genus(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    assert cli.main([str(w) for w in words]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """A run tuned with LoRA: a base folder beside it, the merged model and the adapter inside."""
    recipe = make("bert", dim=32, depth=2, heads=4, vocab=61)
    base = recipe.model.build(0)
    huggingface.save(tmp_path / "base", base, recipe)
    spec = recipe.model.replace(head=TaskHead(3))
    model = spec.build(0)
    own = base.state_dict()
    model.load_state_dict({n: own[n] if not n.startswith("head.") else t for n, t in model.state_dict().items()})
    run = Run.create(tmp_path / "run", {"task": to_json(Classification(labels=("a", "b", "c")))})
    how = LoRA(rank=2)
    how.apply(model, recipe.replace(model=spec))
    for _, change in adapted(model).values():
        torch.nn.init.normal_(change.lora_B)
    how.save(model, run.path, tmp_path / "base", None)
    how.finish(model)
    huggingface.save(run.model_dir, model, spec, context=64)
    return run.path


def test_only_the_adapter(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = genus(capsys, "export", tuned, "-o", tmp_path / "out", "--to", "peft")
    assert f"changes of 12 matrices of {tmp_path / 'base'}, of rank 2" in said and "checked" in said
    assert f'AutoModelForSequenceClassification.from_pretrained("{tmp_path / "base"}", num_labels=3)' in said
    assert f'PeftModel.from_pretrained(model, "{tmp_path / "out"}")' in said
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS" and config["modules_to_save"] == ["bert.pooler.dense", "classifier"]


def test_another_base_is_noticed(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = make("bert", dim=32, depth=2, heads=4, vocab=61)
    huggingface.save(tmp_path / "base", recipe.model.build(0), recipe)
    said = genus(capsys, "export", tuned, "-o", tmp_path / "out", "--to", "peft", status=2)
    assert "is not the model that was tuned" in said and not (tmp_path / "out").exists()


def test_a_run_without_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = make("llama", dim=32, depth=1, heads=4, vocab=61)
    huggingface.save(tmp_path / "base", recipe.model.build(0), recipe)
    assert "tune with --method lora" in genus(capsys, "export", tmp_path / "base", "-o", tmp_path / "x", "--to", "peft", status=2)


def test_what_is_no_adapter_of_this_model(tuned: Path, tmp_path: Path) -> None:
    model = make("llama", dim=32, depth=1, heads=4, vocab=61).model.build(0)
    with pytest.raises(ValueError, match=r"adapter of another model: .* names are not .* such as bert\."):
        load_peft(model, tuned / "adapter")
    with pytest.raises(FileNotFoundError, match=r"has no adapter_config\.json"):
        load_peft(model, tmp_path / "base")
    path = tuned / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    for key, value, message in (
        ("peft_type", "IA3", "'IA3' are not known"),
        ("init_lora_weights", "pissa", "init_lora_weights='pissa' is not supported"),
        ("layer_replication", [[0, 1]], "layer_replication"),
    ):
        path.write_text(json.dumps(config | {key: value}))
        with pytest.raises(ValueError, match=message):
            load_peft(model, tuned / "adapter")


def test_tokens_that_the_base_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A base that is taught to converse: ChatML's two tokens learn, and the adapter brings them."""
    recipe = make("llama", dim=32, depth=1, heads=4, vocab=257, context=128)
    torch.manual_seed(0)
    huggingface.save(tmp_path / "base", recipe.model.build(0), recipe, bytes_tokenizer(), 128)
    rows = [{"prompt": f"say {w}", "response": w.upper()} for w in ("red", "green", "blue") * 8]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tune(tmp_path / "base", tmp_path / "rows.jsonl", tmp_path / "run", TuneOptions("conversation", **LORA), lambda _: None)
    said = genus(capsys, "export", run.path, "-o", tmp_path / "out", "--to", "peft")
    assert f"the rows of 2 tokens that {tmp_path / 'base'} does not know" in said
    assert "model.resize_token_embeddings(259)\n" in said
    assert {"tokenizer.json", "chat_template.jinja", "adapter_config.json"} <= {f.name for f in (tmp_path / "out").iterdir()}
    start, tuned = (huggingface.load(place)[0].state_dict() for place in (tmp_path / "base", run.model_dir))
    for table in ("embed.tokens.weight", "head.weight"):
        assert torch.equal(tuned[table][:257], start[table])
        new, mean = tuned[table][257:], start[table].mean(0)
        assert (new - mean).abs().max() > 1e-4 and not torch.equal(new[0], new[1])
