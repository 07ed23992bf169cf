"""Pairs of texts from every kind of file, what is wrong with some, and how they are stored."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genus.prepare import prepare
from genus.prepare import units as cutting
from genus.prepare.dataset import Dataset

GERMAN = [f"Satz Nummer {i} über einen Hund mit {i * 7} Bällen" for i in range(60)]
ENGLISH = [f"sentence number {i} about a dog with {i * 7} balls" for i in range(60)]


def pairs(data: Dataset, split: str = "train") -> list[tuple[str, str]]:
    part = data.split(split)
    assert part.source is not None and part.source.documents == part.documents
    decode = data.tokenizer.decode
    return [(decode(part.source.document(i)), decode(part.document(i))) for i in range(part.documents)]


def made(paths: Any, out: Path, **options: Any) -> Dataset:
    options = {"tokenizer": "bytes", "validation": 0, "test": 0, "workers": 1, "pairs": True} | options
    data = prepare(paths, out, **options)
    data.verify()
    return data


def _write(folder: Path, kind: str) -> Any:
    rows = list(zip(GERMAN, ENGLISH, strict=True))
    if kind == "tsv":
        (folder / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
        return folder / "a.tsv"
    if kind == "txt":
        (folder / "a.txt").write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
        return folder / "a.txt"
    if kind == "jsonl":
        text = "".join(json.dumps({"id": 1, "de": a, "en": b}) + "\n" for a, b in rows)
        (folder / "a.jsonl").write_text(text, encoding="utf-8")
        return folder / "a.jsonl"
    if kind == "translation":
        text = "".join(json.dumps({"translation": {"de": a, "en": b}}) + "\n" for a, b in rows)
        (folder / "a.jsonl").write_text(text, encoding="utf-8")
        return folder / "a.jsonl"
    if kind == "csv":
        text = "de,en,note\n" + "".join(f'"{a}","{b}",x\n' for a, b in rows)
        (folder / "a.csv").write_text(text, encoding="utf-8")
        return folder / "a.csv"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as parquet

        parquet.write_table(pa.table({"de": GERMAN, "en": ENGLISH}), folder / "a.parquet")
        return folder / "a.parquet"
    if kind == "parquet translation":
        import pyarrow as pa
        import pyarrow.parquet as parquet

        column = [{"de": a, "en": b} for a, b in rows]
        parquet.write_table(pa.table({"translation": column}), folder / "a.parquet", row_group_size=7)
        return folder / "a.parquet"
    for suffix, side in (("de", GERMAN), ("en", ENGLISH)):
        text = "".join(f"{each}\n" for each in side)
        if kind == "two files":
            (folder / f"a.{suffix}").write_text(text, encoding="utf-8")
        else:
            (folder / f"a.{suffix}.gz").write_bytes(gzip.compress(text.encode()))
    ending = ".gz" if kind == "two compressed" else ""
    return [folder / f"a.de{ending}", folder / f"a.en{ending}"]


KINDS = ["tsv", "txt", "jsonl", "translation", "csv", "parquet", "parquet translation", "two files", "two compressed"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_form(tmp_path: Path, kind: str) -> None:
    fields = ("de", "en") if kind in ("jsonl", "csv") else ()
    data = made(_write(tmp_path, kind), tmp_path / "data", fields=fields)
    assert pairs(data) == list(zip(GERMAN, ENGLISH, strict=True))
    assert data.pairs and data.split("train").bytes == sum(len(e.encode()) for e in ENGLISH)


@pytest.mark.parametrize(("kind", "fields"), [("tsv", ("2", "1")), ("jsonl", ("en", "de")), ("translation", ("en", "de"))])
def test_the_other_direction(tmp_path: Path, kind: str, fields: tuple[str, str]) -> None:
    data = made(_write(tmp_path, kind), tmp_path / "data", fields=fields)
    assert pairs(data) == list(zip(ENGLISH, GERMAN, strict=True))


def test_storage(tmp_path: Path) -> None:
    """The layout of single texts, and beside it the same of the sources."""
    data = made(_write(tmp_path, "tsv"), tmp_path / "data")
    folder = tmp_path / "data" / "train"
    names = ["bytes", "ends", "source-bytes", "source-ends", "source-tokens", "tokens"]
    files = sorted(folder.iterdir())
    assert [f.stem.rpartition("-")[0] for f in files] == [f"{name}-00000" for name in names]
    ends = np.load(files[names.index("source-ends")])
    assert ends[0] == len(GERMAN[0].encode()) + 1  # and the end token
    assert data.split("train").document(0)[-1] == data.tokenizer.eos_id


def test_ready_made_splits_and_a_shared_tokenizer(tmp_path: Path) -> None:
    for name, part in (("train", slice(0, 40)), ("val", slice(40, 50)), ("test", slice(50, 60))):
        (tmp_path / f"{name}.de").write_text("\n".join(GERMAN[part]) + "\n", encoding="utf-8")
        (tmp_path / f"{name}.en").write_text("\n".join(ENGLISH[part]) + "\n", encoding="utf-8")
    files = {name: [tmp_path / f"{name}.de", tmp_path / f"{name}.en"] for name in ("train", "val", "test")}
    data = made(
        files["train"], tmp_path / "data", validation=files["val"], test=files["test"], tokenizer="bpe", vocab=400, workers=2
    )
    assert pairs(data, "test") == list(zip(GERMAN[50:], ENGLISH[50:], strict=True))
    assert [len(pairs(data, split)) for split in ("train", "validation")] == [40, 10]
    words = [len(data.tokenizer.encode(side)) for side in (" Hund", " dog")]
    assert words == [1, 1]  # it has learnt both languages


def test_wrong_rows_are_counted_and_kept_aside(tmp_path: Path) -> None:
    lines = [f"{a}\t{b}" for a, b in zip(GERMAN, ENGLISH, strict=True)]
    lines[3:3] = ["nur eine Seite", "\tno source", "kein Ziel\t  ", f"kurz\t{'very ' * 30}long", lines[0]]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = made(tmp_path / "a.tsv", tmp_path / "data")
    assert data.manifest["drops"] == {"missing side": 1, "empty side": 2, "repeated document": 1}
    rejected = [json.loads(line) for line in (tmp_path / "data" / "rejected" / "read.jsonl").read_text().splitlines()]
    assert [(r["line"], r["reason"]) for r in rejected] == [(4, "missing side"), (5, "empty side"), (6, "empty side")]
    assert "kein Ziel" in rejected[2]["excerpt"]
    assert len(pairs(data)) == 61
    assert any(r.startswith("1 pair has one side more than 9 times") for r in data.manifest["remarks"])


def test_a_repeat_is_the_same_pair(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("ja\tyes\nja\tyeah\nja\tyes\njay\tes\n", encoding="utf-8")
    assert pairs(made(tmp_path / "a.tsv", tmp_path / "data")) == [("ja", "yes"), ("ja", "yeah"), ("jay", "es")]


def test_few_pairs_are_held_out_whole(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in zip(GERMAN[:10], ENGLISH[:10])), encoding="utf-8")
    data = made(tmp_path / "a.tsv", tmp_path / "data", validation=0.1, test=0.1)
    every = [*pairs(data), *pairs(data, "validation"), *pairs(data, "test")]
    assert sorted(every) == sorted(zip(GERMAN[:10], ENGLISH[:10])) and len(pairs(data)) == 8


@pytest.mark.parametrize("size", [100, 1000])
def test_parts_of_line_aligned_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Large files are cut where as many lines have gone by in both."""
    monkeypatch.setattr(cutting, "SMALLEST_UNIT", size)
    monkeypatch.setattr(cutting, "LARGEST_UNIT", size)
    data = made(_write(tmp_path, "two files"), tmp_path / "data")
    assert pairs(data) == list(zip(GERMAN, ENGLISH, strict=True))


@pytest.mark.parametrize("size", [300, 10**6])
def test_files_that_are_not_aligned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(cutting, "SMALLEST_UNIT", size)
    monkeypatch.setattr(cutting, "LARGEST_UNIT", size)
    (tmp_path / "a.de").write_text("\n".join(GERMAN) + "\n", encoding="utf-8")
    (tmp_path / "a.en").write_text("\n".join(ENGLISH[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.de and a\.en are not line-aligned: a\.en ends first"):
        made([tmp_path / "a.de", tmp_path / "a.en"], tmp_path / "data")


def test_empty_lines_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("eins\nzwei\n\n", encoding="utf-8")
    (tmp_path / "a.en").write_text("one\ntwo", encoding="utf-8")
    assert pairs(made([tmp_path / "a.de", tmp_path / "a.en"], tmp_path / "data")) == [("eins", "one"), ("zwei", "two")]


def test_bytes_that_are_not_text_cost_one_pair(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_bytes("\n".join(GERMAN[:30]).encode() + b"\nkaputt \xff\xfe hier\nnoch einer\n")
    (tmp_path / "a.en").write_text("\n".join(ENGLISH[:30]) + "\nbroken\none more\n", encoding="utf-8")
    data = made([tmp_path / "a.de", tmp_path / "a.en"], tmp_path / "data")
    assert data.manifest["drops"] == {"not valid utf-8": 1} and pairs(data)[-1] == ("noch einer", "one more")


def test_what_cannot_be_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"x": "a", "y": "b", "z": "c"}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="fields present: x, y, z"):
        made(tmp_path / "a.jsonl", tmp_path / "data")
    (tmp_path / "alone.de").write_text("eins\n", encoding="utf-8")
    with pytest.raises(ValueError, match="without a companion"):
        made(tmp_path / "alone.de", tmp_path / "data")
    with pytest.raises(ValueError, match="name two"):
        made(tmp_path / "a.jsonl", tmp_path / "data", fields=("x",))


def test_single_texts_have_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(ENGLISH), encoding="utf-8")
    data = prepare(tmp_path / "a.txt", tmp_path / "data", tokenizer="bytes", split_documents="line", workers=1)
    assert not data.pairs and data.split("train").source is None and "pairs" not in data.manifest
