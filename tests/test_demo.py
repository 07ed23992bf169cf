"""The demo, on the first chapters of its corpus."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from genus import demo

FIRST = 60


def test_the_corpus_is_the_whole_bible_by_chapters() -> None:
    chapters = dict(demo.chapters())
    assert len(chapters) == 1189
    assert chapters["01-001"].startswith("In the beginning God created the heaven and the earth.")
    assert chapters["66-022"].rstrip().endswith("Amen.")
    assert sum(map(len, chapters.values())) > 4_100_000


def test_every_generation_is_trained_compared_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = list(islice(demo.chapters(), FIRST))
    monkeypatch.setattr(demo, "chapters", lambda: iter(few))
    said: list[str] = []
    results = demo.demo(tmp_path / "demo", seconds=2.0, parameters=150_000, vocab=300, say=said.append)
    assert sorted(r.name for r in results) == sorted(demo.CONTENDERS)
    assert [r.bits_per_byte for r in results] == sorted(r.bits_per_byte for r in results)
    assert all(0.5 < r.bits_per_byte < 8 and r.low < r.bits_per_byte < r.high for r in results)
    page = (tmp_path / "demo/report.html").read_text(encoding="utf-8")
    assert all(name in page for name in demo.CONTENDERS)
    best = next(r for r in results if r.name != "ngram")
    assert json.loads((best.run.model_dir / "config.json").read_text())["model_type"]
    assert any(demo.PROMPT in line for line in said)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"):
        demo.demo(tmp_path, say=lambda _: None)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
