"""Duplicates through the whole of `prepare`: near ones, repeated stretches, and what is told of both."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from genus.prepare import prepare
from genus.prepare import units as cutting


def words(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"w{draw.randrange(10**5)}" for _ in range(count)]


NOTICE = " ".join(words(60, 0))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """60 documents in two files, each with its copy in the other of which one word was changed; six bear the same notice."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    originals = [words(200, seed) for seed in range(1, 61)]
    for name, change in (("a.jsonl", None), ("b.jsonl", 40)):
        with open(folder / name, "w", encoding="utf-8") as file:
            for number, document in enumerate(originals):
                copy = [word if i != change else "changed" for i, word in enumerate(document)]
                text = " ".join(copy) + ("" if change is None else " and more")
                file.write(json.dumps({"text": f"{NOTICE}\n{text}" if number < 6 else text}) + "\n")
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_what_is_alike_goes_and_is_told(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    data = prepare(corpus, out, tokenizer="bytes", steps=["near-duplicates:threshold=0.7", "substrings"], workers=1)
    entries = {entry["step"]: entry for entry in data.manifest["funnel"]}
    assert entries["near-duplicates"]["dropped"] == {"near-duplicate": 60}
    assert entries["near-duplicates"]["documents"] == 60
    assert {"groups": 60, "largest group": 2, "bands": 22, "rows": 5}.items() <= entries["near-duplicates"]["facts"].items()
    assert entries["substrings"]["changed"] == {"repeated stretch": 5}
    assert entries["substrings"]["facts"] == {"stretches": 5, "words cut": 300}
    dropped = lines(out / "rejected" / "near-duplicates.jsonl")
    assert [(each["source"].endswith("a.jsonl"), each["line"]) for each in dropped] == [(True, n) for n in range(1, 61)]
    assert all(each["instead"]["source"].endswith("b.jsonl") and each["instead"]["line"] == each["line"] for each in dropped)
    changed = lines(out / "rejected" / "substrings.jsonl")
    assert [each["line"] for each in changed] == [2, 3, 4, 5, 6]
    assert all(each["excerpt"].startswith(NOTICE[:40]) and not each["after"].startswith(NOTICE[:40]) for each in changed)


def test_the_number_of_workers_and_units_does_not_matter(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [{"near-duplicates": {"keep": "first", "verify": True}}, "substrings:length=20"]
    one = prepare(corpus, tmp_path / "one", tokenizer="bytes", steps=steps, workers=1, seed=3)
    two = prepare(corpus, tmp_path / "two", tokenizer="bytes", steps=steps, workers=2, seed=3)
    assert one.fingerprint == two.fingerprint
    monkeypatch.setattr(cutting, "SMALLEST_UNIT", 5_000)
    small = prepare(corpus, tmp_path / "small", tokenizer="bytes", steps=steps, workers=1, seed=3)
    assert small.fingerprint == one.fingerprint
    told = [(tmp_path / name / "rejected" / "near-duplicates.jsonl").read_text() for name in ("one", "two", "small")]
    assert told[0] == told[1] == told[2]
