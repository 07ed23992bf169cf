"""Sampling what was dropped and changed: every rule has its examples, whatever the size of the files."""

import json
from pathlib import Path
from typing import Any

import pytest

from genus.report import rejected
from genus.report.rejected import Rule, sample


def write(folder: Path, name: str, records: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (folder / name).write_text(lines, encoding="utf-8")


def dropped(i: int, reason: str = "mostly symbols", **more: Any) -> dict[str, Any]:
    return {"source": "a.txt", "line": i, "step": "gopher", "action": "dropped", "reason": reason, "excerpt": f"text {i}", **more}


def test_every_rule_has_its_examples_in_order(tmp_path: Path) -> None:
    many = [dropped(i) for i in range(1, 501)]
    write(tmp_path, "gopher.jsonl", [*many, dropped(0, "too few words", name="inside.html", action="changed", after="else")])
    found = sample(tmp_path, 4)
    assert set(found) == {Rule("gopher", "dropped", "mostly symbols"), Rule("gopher", "changed", "too few words")}
    lines = [example.line for example in found[Rule("gopher", "dropped", "mostly symbols")]]
    assert len(lines) == 4 and lines == sorted(lines) and lines != [1, 2, 3, 4]
    assert sample(tmp_path, 4) == found
    (changed,) = found[Rule("gopher", "changed", "too few words")]
    assert (changed.before, changed.after, changed.place) == ("text 0", "else", "a.txt/inside.html")


def test_a_folder_of_an_older_version(tmp_path: Path) -> None:
    write(tmp_path, "jsonl.jsonl", [{"source": "a.jsonl", "line": 3, "reason": "not valid JSON", "excerpt": "{"}])
    ((rule, (example,)),) = sample(tmp_path, 3).items()
    assert rule == Rule("read", "dropped", "not valid JSON") and example.place == "a.jsonl:3" and example.after is None


def test_a_large_file_is_read_in_stretches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected, "WHOLE", 10_000)
    monkeypatch.setattr(rejected, "STRETCH", 1000)
    write(tmp_path, "gopher.jsonl", [dropped(i) for i in range(20_000)])
    lines = [example.line for example in sample(tmp_path, 200)[Rule("gopher", "dropped", "mostly symbols")]]
    assert len(lines) == 200 and min(lines) < 1000 and max(lines) > 19_000
    read = sum(1 for _ in rejected._lines(tmp_path / "gopher.jsonl"))
    assert 64 * 5 < read < 64 * 12


def test_broken_lines_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"step": "x"\n[1]\n\xff\n' + json.dumps(dropped(1)).encode() + b"\n")
    assert len(sample(tmp_path, 3)) == 1
    assert sample(tmp_path / "nothing", 3) == {}
