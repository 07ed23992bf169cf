"""Compare: every way in one table, done once, and a verdict that knows noise."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genus.export import huggingface
from genus.prepare.tokenizer import build
from genus.recipes import make
from genus.tune import compare
from genus.tune.compare import Way, over_fits, over_rows, verdict
from genus.tune.options import TuneOptions
from genus.tune.results import Row
from genus.tune.splits import Split
from genus.tune.tuning import resume, tune
from genus.tune.unsuitable import Unsuitable

GOOD, BAD = ["fine", "warm", "kind", "bright"], ["dull", "cold", "loud", "grey"]


def labels(folder: Path, count: int = 60) -> Path:
    rng = random.Random(0)
    lines = []
    for i in range(count):
        label = i % 2
        words = [rng.choice(GOOD if label else BAD), *(rng.choice(["the", "film", "was", "a", "day", "and"]) for _ in range(5))]
        rng.shuffle(words)
        lines.append(json.dumps({"text": " ".join(words) + f" {i}", "label": label}))
    file = folder / "labels.jsonl"
    file.write_text("\n".join(lines))
    return file


def base(folder: Path, recipe: str = "gpt2") -> Path:
    texts = [json.loads(line)["text"] for line in labels(folder).read_text().splitlines()]
    tokenizer = build("bpe", texts, 300)
    roles = ("cls", "sep", "mask", "pad") if recipe == "bert" else ()
    tokenizer = tokenizer.extended(roles)
    made = make(recipe, dim=32, depth=1, heads=2, vocab=tokenizer.vocab_size, context=64)
    torch.manual_seed(0)
    huggingface.save(folder / "base", made.model.build(), made, tokenizer, 64)
    return folder / "base"


OPTIONS = TuneOptions(compare=True, seeds=2, epochs=2, refit=False, dropout=0.0, rank=2)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("compared")
    said: list[str] = []
    run = tune(base(folder), labels(folder), folder / "run", OPTIONS, said.append)
    return run, said


def test_every_way_stands_in_the_table(compared) -> None:
    run, said = compared
    results = json.loads((run.path / "results.json").read_text())
    names = [row["name"] for row in results["rows"]]
    assert names[1:] == [
        "16 examples in the prompt",
        "16 examples in the prompt, calibrated",
        "frozen vectors, linear read-out",
        "lora tuning",
        "fresh weights, from the labels alone",
        "majority class",
        "bag of words",
    ]
    assert all(len(row["scores"]) == 2 for row in results["rows"])
    by_name = {row["name"]: row for row in results["rows"]}
    assert by_name["bag of words"]["scores"][0]["accuracy"] > 0.7 and by_name["majority class"]["memory"] == 0
    assert 0 < by_name["lora tuning"]["trainable"] < by_name[names[0]]["trainable"]
    assert by_name["lora tuning"]["memory"] < by_name[names[0]]["memory"]
    assert "'Text: {text}\\nLabel: {label}'" in by_name["16 examples in the prompt"]["note"]
    assert results["verdict"] == said[-1] and said[-1].startswith("best: ") and "the noise" in said[-1]
    page = (run.path / "report.html").read_text()
    assert "frozen vectors, linear read-out" in page and "the noise" in page


def test_what_is_done_is_not_done_again(compared, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = compared

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    results = json.loads((run.path / "results.json").read_text())
    del run.config["finished"]
    run.save()
    for place, name in ((compare, "features"), (compare, "Prompt"), (compare.trial, "fit"), (compare.baselines, "predicted")):
        monkeypatch.setattr(place, name, never)
    again = resume(run.path, lambda _: None)
    assert json.loads((again.path / "results.json").read_text())["rows"] == results["rows"]


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    options = TuneOptions(compare=True, seeds=1, epochs=1, refit=False, rank=2)
    tune(base(tmp_path, "bert"), labels(tmp_path, 40), tmp_path / "run", options, said.append)
    assert any("compare: without a prompt: this model sees both sides" in line for line in said)
    names = [r["name"] for r in json.loads((tmp_path / "run" / "results.json").read_text())["rows"]]
    assert "frozen vectors, linear read-out" in names and not any("prompt" in name for name in names)


def test_what_goes_wrong_is_no_reason_to_leave_a_way_out() -> None:
    """Only `Unsuitable` is: a mistake of ours or of the user's must not look like one."""
    said: list[str] = []
    part = Split("seed 0", (0, 1), (2,), (3,))
    comparison = compare.Comparison(*[None] * 4, [part], TuneOptions(), said.append)  # type: ignore[arg-type]

    def fails(error: Exception) -> Callable[[], list[Way]]:
        def measure() -> list[Way]:
            raise error

        return measure

    assert comparison._measured([("frozen vectors", fails(Unsuitable("there is one class only")))]) == []
    assert said == ["compare: without frozen vectors: there is one class only"]
    with pytest.raises(ValueError, match="lost its tokenizer"):
        comparison._measured([("frozen vectors", fails(ValueError("the model lost its tokenizer")))])


def test_a_column_that_a_prompt_cannot_name(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in labels(tmp_path, 30).read_text().splitlines()]
    file = tmp_path / "odd.jsonl"
    file.write_text("\n".join(json.dumps({"text: long": row["text"], "label": row["label"]}) for row in lines))
    said: list[str] = []
    options = TuneOptions(compare=True, seeds=1, epochs=1, refit=False, rank=2, text="text: long")
    tune(base(tmp_path), file, tmp_path / "run", options, said.append)
    assert "compare: without a prompt: the column 'text: long' cannot stand in a prompt's braces; rename it" in said


def way(folder: Path, name: str, right: list[list[int]]) -> Way:
    folders = []
    for split, answers in enumerate(right):
        place = folder / name / str(split)
        place.mkdir(parents=True)
        lines = [json.dumps({"place": f"f:{i}", "label": "a", "prediction": "a" if x else "b"}) for i, x in enumerate(answers)]
        (place / "predictions.jsonl").write_text("\n".join(lines) + "\n")
        folders.append(place)
    return Way(Row(name, tuple({"accuracy": sum(a) / len(a)} for a in right)), tuple(folders))


def test_the_verdict_knows_noise(tmp_path: Path) -> None:
    rng = random.Random(0)
    coins = [[int(rng.random() < 0.8) for _ in range(100)] for _ in range(3)]
    good = way(tmp_path, "good", [[1] * 100] * 3)
    fair = way(tmp_path, "fair", coins)
    flipped = [[1 - x if i == 0 else x for i, x in enumerate(split)] for split in coins]
    near = way(tmp_path, "near", flipped)
    assert "is larger than the noise" in verdict("accuracy", [fair, good], 0.0)
    assert verdict("accuracy", [fair, good], 0.0).startswith("best: good, accuracy 1.000; next: fair")
    assert "not larger than the noise" in verdict("accuracy", [fair, near], 0.0)
    low, high = over_rows(good, fair) or (0, 0)
    assert 0.1 < low < high < 0.3
    narrow, wide = (over_fits(good.row, fair.row, "accuracy", overlap) or (0, 0) for overlap in (0.0, 0.25))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert verdict("accuracy", [good], 0.0) == ""
    assert over_fits(Row("a", ({"x": 1.0},)), Row("b", ({"x": 0.0},)), "x", 0.0) is None
