"""Ready-made validation and test sets: what compares documents or samples them leaves these sets whole."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from genus.prepare import Dataset, prepare


def words(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(f"w{draw.randrange(10**5)}" for _ in range(count))


OWN = [words(100, seed) for seed in range(1, 31)]
HELD = [words(100, seed) for seed in range(100, 106)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each document of the test set stands in the training text too: longer, and with another word in its middle."""
    near = [f"{text[:300]} other {text[300:]} and a longer end" for text in HELD]
    for name, texts in (("train", [*near, *OWN]), ("test", [*HELD, HELD[0] + " again"])):
        lines = [json.dumps({"text": text}) for text in texts]
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path / "in"


def made(folder: Path, *steps: str, **more: Any) -> Dataset:
    out = folder.parent / "out"
    return prepare(folder, out, steps=steps, tokenizer="bytes", validation=0, workers=1, overwrite=True, **more)


def texts(data: Dataset, split: str) -> list[str]:
    part = data.split(split)
    return [data.tokenizer.decode(part.document(i)[:-1].tolist()) for i in range(part.documents)]


def whole_test_set(data: Dataset) -> bool:
    return texts(data, "test") == [*HELD, HELD[0] + " again"]


def test_of_near_duplicates_the_one_to_train_on_goes(folder: Path) -> None:
    data = made(folder, "near-duplicates:threshold=0.6")
    assert whole_test_set(data) and texts(data, "train") == OWN
    told = [json.loads(line) for line in (data.root / "rejected/near-duplicates.jsonl").read_text().splitlines()]
    assert [(each["line"], each["instead"]["line"]) for each in told] == [(1, 7), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]
    assert all(each["source"].endswith("train.jsonl") and each["instead"]["source"].endswith("test.jsonl") for each in told)


def test_stretches_are_cut_out_of_what_is_trained_on(folder: Path) -> None:
    data = made(folder, "substrings:length=30")
    assert whole_test_set(data)
    left = texts(data, "train")
    assert left[-30:] == OWN and all("other" in text and len(text) < 40 for text in left[:-30])


@pytest.mark.parametrize("remove", ["document", "stretch"])
def test_an_evaluation_set_is_not_taken_out_of_itself(folder: Path, remove: str) -> None:
    data = made(folder, f"decontaminate:sets={folder / 'test.jsonl'},remove={remove}")
    assert whole_test_set(data) and texts(data, "train")[-30:] == OWN
    assert not any(text.startswith(HELD[0][:50]) for text in texts(data, "train"))


@pytest.mark.parametrize("step", ["sample:share=0.3", "limit:documents=9"])
def test_samples_are_of_what_is_trained_on(folder: Path, step: str) -> None:
    data = made(folder, step)
    assert whole_test_set(data) and 3 < len(texts(data, "train")) < 20


def test_what_a_rule_takes_out_of_them_is_told(folder: Path) -> None:
    data = made(folder, "gopher:minimum_words=101,stop_words=0,alphabetic=0,maximum_word_length=99")
    assert texts(data, "test") == [HELD[0] + " again"]
    assert "of the ready-made validation and test sets 6 documents were dropped: gopher 6" in data.manifest["remarks"]
