"""The step `classifier`: scores are those of `genus predict` and of transformers, and the thresholds keep what they say."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import genus
from genus.prepare import prepare
from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.classifier import HIGH, LOW, Classifier
from genus.tune.judge import Judge
from genus.tune.labeller import Labeller
from genus.tune.predict import predict

from .conftest import reviews
from .test_tuning import FAST, SIZES, _without, write

TEXTS = [row["text"] for row in reviews(60, seed=9)]
GOOD = [row["label"] == "pos" for row in reviews(60, seed=9)]


def batch(texts: list[str]) -> pa.RecordBatch:
    return next(batches_of(map(Document, texts)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    options = _without(FAST, "overrides") | {"seeds": 1}
    return genus.tune("bert", write(folder / "a.csv", reviews(100)), folder / "run", *SIZES, say=lambda _: None, **options).path


def test_scores_are_those_of_predict(run: Path) -> None:
    texts = [*TEXTS, "the film was great " * 300]
    outcome = Judge(str(run), "pos").ready()(batch(texts))
    scores = outcome.batch.column("classifier.pos").to_pylist()
    told = Labeller.load(run)([{"text": text} for text in texts])
    expected = [row["probability"] if row["prediction"] == "pos" else 1 - row["probability"] for row in told]
    np.testing.assert_allclose(scores, expected, atol=2e-3)
    assert not outcome.drops and sum(outcome.counts.values()) == len(texts)
    assert all(0 <= float(name.removeprefix("classifier.pos=")) <= 1 for name in outcome.counts)


def test_the_order_of_texts_does_not_matter(run: Path) -> None:
    texts = TEXTS[:]
    random.Random(1).shuffle(texts)
    score = Judge(str(run), "pos").scorer()
    np.testing.assert_allclose(sorted(score(texts)), sorted(score(TEXTS)), atol=1e-5)


def test_limits(run: Path) -> None:
    kept = Judge(str(run), "pos", minimum=0.5).ready()(batch(TEXTS))
    gone = {name.partition("=")[2]: n for name, n in kept.counts.items() if name.startswith("classifier.pos dropped=")}
    assert sum(gone.values()) == len(kept.drops) > 0 and all(float(value) <= 0.5 for value in gone)
    assert set(kept.batch.column("text").to_pylist()) == {text for text, good in zip(TEXTS, GOOD, strict=True) if good}
    assert {drop.reason for drop in kept.drops} == {LOW} and len(kept.drops) == 30
    left = Judge(str(run), "pos", maximum=0.5).ready()(batch(TEXTS))
    assert {drop.reason for drop in left.drops} == {HIGH}
    assert {drop.row for drop in left.drops} == set(kept.batch.column("row").to_pylist())


def test_a_text_without_a_score_is_kept(run: Path) -> None:
    outcome = Judge(str(run), "pos", minimum=0.5).ready()(batch(["", "so great"]))
    assert outcome.batch.num_rows == 2 and np.isnan(outcome.batch.column("classifier.pos")[0].as_py())


def test_labels_that_are_not_there(run: Path) -> None:
    with pytest.raises(ValueError, match="no label 'good'; choose one of: neg, pos; name one with label="):
        Judge(str(run), "good").ready()
    with pytest.raises(ValueError, match="has neg, pos; name one"):
        Judge(str(run)).ready()
    with pytest.raises(ValueError, match="name the model"):
        Judge().reads()
    with pytest.raises(ValueError, match=r"genus\.tune\.judge\.Judge"):
        Classifier("x").ready()


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_folders_of_hugging_face(problem: str, run: Path, tmp_path: Path) -> None:
    """Scores are those that transformers' own model gives."""
    outputs = 1 if problem == "regression" else 3
    model = AutoModelForSequenceClassification.from_pretrained(
        run / "model", num_labels=outputs, problem_type=problem, ignore_mismatched_sizes=True
    ).eval()
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    if problem == "single_label_classification":
        model.config.id2label = {0: "bad", 1: "good", 2: "odd"}
    model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    tokenizer.save_pretrained(tmp_path)
    with torch.no_grad():
        logits = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    label, expected = {
        "regression": lambda: ("", logits[:, 0]),
        "single_label_classification": lambda: ("good", logits.softmax(-1)[:, 1]),
        "multi_label_classification": lambda: ("LABEL_1", logits.sigmoid()[:, 1]),
    }[problem]()
    scores = Judge(str(tmp_path), label).scorer()(TEXTS)
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)
    assert scores.std() > 1e-3
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text, "label": "good"}) + "\n" for text in TEXTS))
    tally = predict(tmp_path, tmp_path / "in.jsonl", tmp_path / "out.jsonl", dtype="fp32", say=lambda _: None)
    said = [json.loads(line)["prediction"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    names = ["bad", "good", "odd"]
    assert (said, tally.labelled) == {
        "regression": lambda: (pytest.approx(logits[:, 0].tolist(), abs=1e-4), 0),  # their label is no number
        "single_label_classification": lambda: ([names[i] for i in logits.argmax(1)], len(TEXTS)),
        "multi_label_classification": lambda: ([[f"LABEL_{i}" for i in range(3) if row[i] > 0] for row in logits], 0),
    }[problem]()


def test_in_prepare(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line finds the step that reads models, and so do its workers."""
    from genus.cli import main

    rows = [f"{row['text']} {i}" for i, row in enumerate(reviews(180, seed=5))]
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.txt").write_text("\n".join(rows[number::3]), encoding="utf-8")
    good = int((Judge(str(run), "pos").scorer()(rows) >= 0.5).sum())
    step = f"classifier:model={run},label=pos,minimum=0.5"
    command = ["prepare", str(tmp_path / "in"), "-o", str(tmp_path / "DATA"), "--split-documents", "line", "--tokenizer", "bytes"]
    assert main([*command, "--steps", step, "--workers", "2", "--quiet"]) == 0
    capsys.readouterr()
    data = genus.Dataset.open(tmp_path / "DATA")
    (entry,) = [each for each in data.manifest["funnel"] if each["step"] == "classifier"]
    assert entry["dropped"] == {LOW: 180 - good} and entry["documents"] == good and 60 < good < 120
    again = prepare(
        tmp_path / "in", tmp_path / "AGAIN", split_documents="line", tokenizer="bytes", workers=1,
        steps=[f"genus.tune.judge.Judge:model={run},label=pos,minimum=0.5"],
    )  # fmt: skip
    assert again.fingerprint == data.fingerprint
