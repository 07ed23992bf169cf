"""What the manifest tells the page of a data folder is true of the folder: distributions, vocabulary, sources, drops."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from genus.prepare import Dataset, prepare
from genus.prepare.histograms import EDGES
from genus.prepare.quarantine import REPEATS
from genus.prepare.show import show
from genus.report.data_page import page
from genus.report.data_read import read_data

GOOD = "The cat and the dog sat with the bird of the house, and that was to be the end of it, so they all went home. "
POEM = "床前明月光，疑是地上霜。"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("account")
    (root / "texts").mkdir()
    for name, count in (("a", 120), ("b", 90)):
        lines = [json.dumps({"text": f"{name} {i} " + GOOD * (3 + i % 4)}) for i in range(count)]
        lines += [json.dumps({"text": f"short {name} {i}"}) for i in range(30)]
        lines += ["{broken"] * (2 if name == "a" else 0)
        lines += [json.dumps({"text": "the same " + GOOD * 3})] * 4
        (root / "texts" / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    prepare(root / "texts", root / "DATA", steps=["gopher"], tokenizer="bpe", vocab=300, workers=1)
    return root / "DATA"


def test_distributions(folder: Path) -> None:
    data = Dataset.open(folder)
    spread = data.manifest["histograms"]
    read, kept = spread["read"]["length"], spread["kept"]["length"]
    funnel = {entry["step"]: entry for entry in data.manifest["funnel"]}
    assert sum(read["counts"]) == funnel["read"]["documents"] == 120 + 90 + 60 + 8
    assert sum(kept["counts"]) == funnel["gopher"]["documents"] == 120 + 90 + 8
    lengths = [
        len(data.tokenizer.decode(split.document(i).tolist()))
        for split in map(data.split, ("train", "validation", "test"))
        for i in range(split.documents)
    ]
    lengths += [len("the same " + GOOD * 3)] * 7  # exact repeats are left out later
    expected = np.histogram(lengths, bins=[*EDGES, 10**12])[0]
    assert dict(zip(kept["edges"], kept["counts"])) == {e: n for e, n in zip(EDGES, expected.tolist()) if e in kept["edges"][:-1]}


def test_vocabulary(folder: Path) -> None:
    data = Dataset.open(folder)
    train = data.split("train")
    tokens = Counter(train.read(0, train.tokens).tolist())
    ends = tokens.pop(data.tokenizer.eos_id)
    told = data.manifest["vocabulary"]
    assert told["tokens"] == train.tokens - ends and ends == train.documents
    assert told["used"] == len(tokens) and told["ranks"][0] == [1, max(tokens.values())]


def test_sources_and_what_was_dropped_of_each(folder: Path) -> None:
    a, b = Dataset.open(folder).manifest["sources"]
    assert a["dropped"] == {"gopher": 30, "read": 2, REPEATS: 3} and b["dropped"] == {"gopher": 30, REPEATS: 4}
    assert a["rejected"] == 32 and b["rejected"] == 30  # nothing is wrong with a repeat
    assert Dataset.open(folder).manifest["rejected"] == 62


def test_every_stored_document_can_be_traced_to_its_source(folder: Path) -> None:
    data = Dataset.open(folder)
    for name in ("train", "validation", "test"):
        split, place = data.split(name), 0
        for source, count in data.manifest["splits"][name]["of_source"]:
            for i in range(place, place + count):
                text = data.tokenizer.decode(split.document(i).tolist())
                assert text[0] == "ab"[source] or text.startswith("the same")
            place += count
        assert place == split.documents


def test_page_and_terminal(folder: Path) -> None:
    text = page(read_data(folder))
    for shown in ("too few words", "repeated document", "bad JSON", "Length of documents; faint: as read", "b.jsonl"):
        assert shown in text, shown
    told = show(folder)
    assert "gopher: too few words (60 dropped)" in told and "repeats: repeated document (7 dropped)" in told


def test_a_repeated_source_and_pairs(tmp_path: Path) -> None:
    for name, count in (("a", 40), ("b", 40)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} line {i}\tother {i}\n" for i in range(count)), encoding="utf-8")
    options = {"split_documents": "line", "tokenizer": "bytes", "workers": 1}
    sources = [
        {"name": "a", "path": str(tmp_path / "a.txt"), "weight": 3, "epochs": 3},
        {"name": "b", "path": str(tmp_path / "b.txt"), "weight": 1},
    ]
    mixed = prepare([], tmp_path / "MIXED", sources=sources, **options)
    train = mixed.split("train")
    runs = mixed.manifest["splits"]["train"]["of_source"]
    assert sum(count for _, count in runs) == train.documents
    place = 0
    for source, count in runs:
        for i in range(place, place + count):
            assert mixed.tokenizer.decode(train.document(i).tolist())[0] == "ab"[source]
        place += count
    assert "× " in page(read_data(tmp_path / "MIXED"))
    pairs = prepare(tmp_path / "a.txt", tmp_path / "PAIRS", pairs=True, tokenizer="bytes", workers=1)
    told = pairs.manifest["vocabulary"]
    train = pairs.split("train")
    assert train.source is not None and told["tokens"] == train.tokens + train.source.tokens - 2 * train.documents
