"""Bounded samples of files and of prepared folders, with source and language."""

import json
from pathlib import Path

import pytest

from genus.prepare import prepare
from genus.prepare.texts import Text, languages, sample, script


def write(folder: Path, count: int = 40) -> Path:
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:03}.txt").write_text(f"document {i} " + "word " * 50, encoding="utf-8")
    return folder


def test_everything_when_there_is_little(tmp_path: Path) -> None:
    found = sample([write(tmp_path / "texts")], 10**6)
    assert [text.text.split()[1] for text in found] == [str(i) for i in range(40)]
    assert len({text.source for text in found}) == 40


def test_a_sample_is_bounded_and_the_same_every_time(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts")
    found = sample([folder], 3000)
    size = sum(len(text.text) for text in found)
    assert 2400 < size <= 3000 and sample([folder], 3000) == found
    assert found != sample([folder], 10**6)[: len(found)]


def test_a_long_document_comes_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("".join(f"line {i}\n" for i in range(40_000)), encoding="utf-8")
    whole = sample([tmp_path / "long.txt"], 10**7)
    assert len(whole) > 3 and "".join(text.text for text in whole) == (tmp_path / "long.txt").read_text(encoding="utf-8")
    assert 0 < len(sample([tmp_path / "long.txt"], 100_000)) < len(whole)


def test_a_prepared_folder_gives_its_held_out_texts_back(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts")
    data = prepare(folder, tmp_path / "DATA", tokenizer="bytes", workers=1)
    held = sample([tmp_path / "DATA"], 10**6)
    train = sample([tmp_path / "DATA"], 10**6, held_out=False)
    assert len(held) == data.split("validation").documents + data.split("test").documents
    assert len(train) == data.split("train").documents
    every = sorted(text.text for text in [*held, *train])
    assert every == sorted(file.read_text(encoding="utf-8") for file in folder.iterdir())


def test_a_lossy_folder_is_refused(tmp_path: Path) -> None:
    prepare(write(tmp_path / "texts"), tmp_path / "DATA", tokenizer="words", workers=1)
    with pytest.raises(ValueError, match="lossy"):
        sample([tmp_path / "DATA"], 1000)


def test_documents_are_traced_to_their_sources_where_the_manifest_tells(tmp_path: Path) -> None:
    data = prepare(write(tmp_path / "texts"), tmp_path / "DATA", tokenizer="bytes", workers=1)
    file = tmp_path / "DATA" / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    count = data.split("validation").documents
    manifest["splits"]["validation"]["of_source"] = [[3, 1], [7, count - 1]]
    manifest["splits"]["test"].pop("of_source", None)
    file.write_text(json.dumps(manifest), encoding="utf-8")
    found = sample([tmp_path / "DATA"], 10**6)
    names = [manifest["sources"][i]["name"] for i in (3, 7)]
    assert [text.source for text in found[:count]] == [names[0]] + [names[1]] * (count - 1)
    assert {text.source for text in found[count:]} == {"DATA"}


def test_scripts() -> None:
    assert script("Hello, world") == "Latin" and script("Привет, world and мир вам") == "Cyrillic"
    assert script("床前明月光") == "Chinese" and script("これは漢字です") == "Japanese" and script("123 😀") == "no letters"


def test_a_language_that_the_source_names_is_believed() -> None:
    found = languages([Text("a", "x = 1", "python"), Text("b", "床前明月光，疑是地上霜。" * 3)])
    assert found[0] == "python" and found[1] in ("zh", "zh-Hans", "Chinese")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        sample([tmp_path / "nowhere"], 1000)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="no text"):
        sample([tmp_path / "empty.txt"], 1000)
