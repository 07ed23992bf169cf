"""The steps of this page through `prepare`: the same whatever the workers, counted, and nothing masked is written anywhere."""

import json
import random
from pathlib import Path

import pytest

from genus.prepare import prepare, units

SECRET, EMAIL, PHONE = "Zq8Wx2Lp9Vt4Kd7Rm3Yb", "anna.k77@mail.example.org", "+44 20 7946 0958"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(units, "SMALLEST_UNIT", 3000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 3000)
    dice = random.Random(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        lines = [f"A line with the number {dice.random()} and no more" for _ in range(60)]
        lines[5] = f"{number}: write to {EMAIL} or call {PHONE}"
        lines[9] = f'{number}: api_key = "{SECRET}"'
        (folder / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_masked_and_counted(corpus: Path, tmp_path: Path) -> None:
    data = prepare(
        corpus, tmp_path / "DATA", split_documents="line", tokenizer="bytes", steps=["secrets", "personal-data"], workers=1
    )
    funnel = {entry["step"]: entry for entry in data.manifest["funnel"]}
    assert funnel["secrets"]["changed"] == {"random value beside a telling word masked": 4}
    assert funnel["personal-data"]["changed"] == {"e-mail address masked": 4, "phone number masked": 4}
    assert funnel["personal-data"]["facts"] == {"<EMAIL>": 4, "<PHONE>": 4}
    assert funnel["personal-data"]["documents"] == 240
    records = [json.loads(line) for line in (tmp_path / "DATA/rejected/personal-data.jsonl").read_text("utf-8").splitlines()]
    assert {(r["action"], r["line"]) for r in records} == {("changed", 6)}
    assert all("<EMAIL> or call <PHONE>" in r["after"] and "an…rg" in r["excerpt"] for r in records)
    texts = "".join(
        data.tokenizer.decode(split.document(i))
        for split in map(data.split, ("train", "validation", "test"))
        for i in range(split.documents)
    )
    assert texts.count("<EMAIL>") == texts.count("<PHONE>") == texts.count('api_key = "<SECRET>"') == 4
    for file in (tmp_path / "DATA").rglob("*"):
        if file.is_file():
            raw = file.read_bytes()
            assert not any(thing.encode() in raw for thing in (SECRET, EMAIL, PHONE)), f"{file} tells"


def test_samples_and_limits_do_not_depend_on_workers(corpus: Path, tmp_path: Path) -> None:
    steps = ["sample:share=0.5", "limit:documents=50", "personal-data"]
    one = prepare(corpus, tmp_path / "one", split_documents="line", tokenizer="bytes", steps=steps, workers=1)
    two = prepare(corpus, tmp_path / "two", split_documents="line", tokenizer="bytes", steps=steps, workers=2)
    other = prepare(corpus, tmp_path / "other", split_documents="line", tokenizer="bytes", steps=steps, workers=1, seed=5)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    funnel = {entry["step"]: entry["documents"] for entry in one.manifest["funnel"]}
    assert 90 < funnel["sample"] < 150 and funnel["limit"] == funnel["personal-data"] == 50
