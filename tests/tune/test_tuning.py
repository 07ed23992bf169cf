"""From a file of labels to a run: the files it holds, what is said, and how it goes on after an interruption."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import genus
from genus.prepare.records import Record
from genus.run import Run, load
from genus.tune import trial
from genus.tune.options import TuneOptions
from genus.tune.tuning import resume, tune

from .conftest import reviews

SIZES = ("dim=32", "depth=1", "heads=2")
FAST: dict[str, Any] = {"epochs": 8, "lr": 5e-3, "dropout": 0.0, "dtype": "fp32", "context": 32, "overrides": SIZES}


def write(path: Path, rows: list[Record]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    folder = tmp_path_factory.mktemp("tuned")
    said: list[str] = []
    rows = [*reviews(120), {"text": "", "label": "pos"}, {"text": "the film <b>", "label": ""}]
    options = TuneOptions(seeds=2, **FAST)
    return tune("bert", write(folder / "labels.csv", rows), folder / "run", options, said.append), "\n".join(said)


def test_what_a_run_holds(tuned: tuple[Run, str]) -> None:
    run, _ = tuned
    assert {p.name for p in run.path.iterdir()} == {
        *("run.json", "metrics.jsonl", "results.json", "predictions.jsonl", "rejected.jsonl"),
        *("report.html", "model", "fits", "compare"),
    }
    assert not list(run.path.glob("fits/*/checkpoints"))
    config = Run.open(run.path).config
    assert config["task"]["labels"] == ["neg", "pos"] and config["labels"]["rows"] == 120 and config["labels"]["rejected"] == 2
    assert config["finished"]["trials"] == 2 and config["finished"]["score"]["mean"] > 0.9
    results = json.loads((run.path / "results.json").read_text())
    assert results["rows"][0]["name"] == "bert from the labels alone"
    assert {"majority class", "bag of words"} < {row["name"] for row in results["rows"]}
    trials = results["trials"]
    assert [t["split"] for t in trials] == ["seed 0", "seed 1"] and all(t["rows"] < 90 and t["held"] > 20 for t in trials)
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == sum(t["held"] for t in trials) and {line["split"] for line in lines} == {"seed 0", "seed 1"}
    assert set(lines[0]) == {"split", "place", "label", "prediction", "probability", "text"}
    shares = [sum(x["label"] == x["prediction"] for x in lines if x["split"] == t["split"]) / t["held"] for t in trials]
    assert shares == pytest.approx([t["test"]["accuracy"] for t in trials])


def test_what_is_said(tuned: tuple[Run, str]) -> None:
    _, said = tuned
    for part in (
        "labels: 'label' has 2 different values in 122 rows: classification of 'text'",
        "2 of 122 rows of",
        "2 classes in 120 rows: neg 60 (50 %), pos 60 (50 %)",
        "tokenizer: byte-level BPE",
        "base: bert with fresh weights, ",
        "splits: 2 seeds:",
        "tuning: full,",
        "all rows: 120 rows",
        "majority class",
        "0.500 ± 0.000",
    ):
        assert part in said, part


def test_the_model_is_one_like_any_other(tuned: tuple[Run, str]) -> None:
    run, _ = tuned
    loaded = load(run.path)
    config = json.loads((run.model_dir / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "pos"} and config["architectures"] == ["BertForSequenceClassification"]
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(run.model_dir).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.model_dir)
    import torch

    with torch.no_grad():
        logits = theirs(**tokenizer("the film was great", return_tensors="pt")).logits
        ids, types = loaded.tokenizer.frame("the film was great")
        ours = loaded.model(torch.tensor([ids]), types=torch.tensor([types]))
    assert torch.allclose(logits, ours, atol=1e-4) and int(logits.argmax()) == 1


def test_the_report(tuned: tuple[Run, str]) -> None:
    run, _ = tuned
    page = (run.path / "report.html").read_text(encoding="utf-8")
    for part in ("What the labels are worth", "Every fit", "What is taken for what", "calibration error", "majority class"):
        assert part in page
    assert "<script" not in page and "http" not in page.split("<details>")[0].replace("http-equiv", "")


def test_tuning_a_tuned_run_further(tuned: tuple[Run, str], tmp_path: Path) -> None:
    run, _ = tuned
    options = TuneOptions(seeds=1, epochs=1, lr=1e-6, dtype="fp32", refit=False)
    said: list[str] = []
    again = tune(run.path, write(tmp_path / "more.csv", reviews(60, 9)), tmp_path / "again", options, said.append)
    assert again.config["finished"]["score"]["mean"] > 0.9  # the read-out was kept, since the task is the same
    assert any(line.startswith("kept: seed 0") for line in said) and again.config["base"]["kind"] == "run"
    rows = {row["name"]: row for row in json.loads((again.path / "results.json").read_text())["rows"]}
    alone = rows["fresh weights, from the labels alone"]
    assert len(alone["scores"]) == 1 and alone["scores"][0]["accuracy"] < 0.9  # in one pass
    fit = json.loads((again.path / "compare/fresh-weights-from-the-labels-alone/seed-0/result.json").read_text())
    assert fit["trainable"] == alone["trainable"] and fit["split"] == "seed 0"


def test_a_test_set_judges_every_seed_and_the_model_that_is_kept(tmp_path: Path) -> None:
    test = write(tmp_path / "test.csv", reviews(40, 5))
    labels = write(tmp_path / "labels.csv", reviews(80))
    run = genus.tune(
        "gpt2", labels, tmp_path / "run", *SIZES, say=lambda _: None, test=str(test), seeds=2, **_without(FAST, "overrides")
    )
    results = json.loads((run.path / "results.json").read_text())
    assert results["judged"] == "the test set" and results["kept"]["accuracy"] > 0.8
    assert all(t["held"] == 40 for t in results["trials"])
    assert (run.path / "predictions.jsonl").read_text().count('"split": "kept"') == 40
    with pytest.raises(ValueError, match="leave out --folds"):
        genus.tune("gpt2", labels, tmp_path / "no", test=str(test), folds=3, say=lambda _: None)
    assert not (tmp_path / "no").exists()


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = write(tmp_path / "labels.csv", reviews(60))
    options = TuneOptions(folds=2, **{**FAST, "epochs": 2})
    whole = tune("bert", labels, tmp_path / "whole", options, lambda _: None)
    fit, fits = trial.fit, []

    def breaks(*args: Any, **more: Any) -> Any:
        fits.append(more["name"])
        if len(fits) == 2:
            raise KeyboardInterrupt
        return fit(*args, **more)

    monkeypatch.setattr(trial, "fit", breaks)
    with pytest.raises(KeyboardInterrupt):
        tune("bert", labels, tmp_path / "cut", options, lambda _: None)
    said: list[str] = []
    again = resume(tmp_path / "cut", said.append)
    assert fits == ["seed 0, fold 1 of 2", "seed 0, fold 2 of 2", "seed 0, fold 2 of 2"]
    assert "continued: 1 fit done before" in said
    results = [json.loads((run.path / "results.json").read_text())["trials"] for run in (whole, again)]
    assert [t["test"] for t in results[0]] == [t["test"] for t in results[1]]
    assert (whole.model_dir / "model.safetensors").read_bytes() == (again.model_dir / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="is finished; tune it further"):
        resume(tmp_path / "cut")


def test_labels_that_changed_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = write(tmp_path / "labels.csv", reviews(60))

    def breaks(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "fit", breaks)
    with pytest.raises(KeyboardInterrupt):
        tune("bert", labels, tmp_path / "run", TuneOptions(**FAST), lambda _: None)
    write(labels, reviews(60, 1))
    with pytest.raises(ValueError, match="is not what this run began with"):
        resume(tmp_path / "run")


def test_texts_that_are_too_long_are_counted(tmp_path: Path) -> None:
    rows = [{**row, "text": row["text"] * (9 if i < 4 else 1)} for i, row in enumerate(reviews(40))]
    said: list[str] = []
    run = tune(
        "bert", write(tmp_path / "a.csv", rows), tmp_path / "run", TuneOptions(seeds=1, **{**FAST, "epochs": 1}), said.append
    )
    assert any(line.startswith("labels: of 40 texts to learn from, ") and "longer than 32 tokens" in line for line in said)
    assert any("longer than 32 tokens" in remark for remark in run.config["labels"]["remarks"])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("bertt", {}, "no recipe 'bertt'; did you mean 'bert'"),
        ("ngram", {}, "counted"),
        ("bert", {"method": "lorra"}, "no method 'lorra'; did you mean 'lora'"),
        ("bert", {"folds": 200}, "200 folds need at least 200"),
    ],
)
def test_wishes_that_cannot_be_met(tmp_path: Path, source: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune(source, write(tmp_path / "a.csv", reviews(20)), tmp_path / "run", TuneOptions(**options), lambda _: None)
    assert not (tmp_path / "run").exists()


def test_too_few_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 rows are too few to learn from some and judge on others"):
        tune("bert", write(tmp_path / "a.csv", reviews(2)), tmp_path / "run", TuneOptions(), lambda _: None)


def test_a_run_is_not_written_over(tuned: tuple[Run, str], tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="already holds a run"):
        tune("bert", write(tmp_path / "a.csv", reviews(20)), tuned[0].path, TuneOptions(), lambda _: None)


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in names}
