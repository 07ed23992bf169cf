"""`genus prepare --show rejected`: readable, harmless, and as wide as the terminal."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from genus.prepare.show import one_line, show


def folder(path: Path, records: list[dict[str, Any]], **manifest: Any) -> Path:
    (path / "rejected").mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps({"format": "genus-dataset", "version": 1, "drops": {}, **manifest}))
    for record in records:
        with open(path / "rejected" / f"{record['step']}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


def record(step: str, reason: str, excerpt: str, **more: Any) -> dict[str, Any]:
    return {"source": "web.jsonl", "line": 7, "step": step, "action": "dropped", "reason": reason, "excerpt": excerpt, **more}


FUNNEL = [
    {"step": "read", "documents": 900, "bytes": 1, "dropped": {"not valid JSON": 1}, "changed": {}},
    {"step": "unicode", "documents": 900, "bytes": 1, "dropped": {}, "changed": {"repaired Unicode": 12}},
    {"step": "gopher", "documents": 800, "bytes": 1, "dropped": {"mostly symbols": 1234}, "changed": {}},
]


def test_every_rule_with_its_number_in_the_order_of_the_steps(tmp_path: Path) -> None:
    changed = record("unicode", "repaired Unicode", "…one and the same begin‚ cafÃ© and more", action="changed")
    records = [
        *(record("gopher", "mostly symbols", "### !!! ###\nsecond line", line=i) for i in range(9)),
        changed | {"after": "…one and the same begin‚ café and more"},
        record("read", "not valid JSON", '{"a', line=0, name="inside.jsonl", instead={"source": "b.txt", "line": 3}),
    ]
    text = show(folder(tmp_path / "DATA", records, funnel=FUNNEL), 2, width=200)
    assert text.splitlines() == [
        "read: not valid JSON (1 dropped)",
        "  web.jsonl/inside.jsonl",
        '    {"a',
        "    kept instead: b.txt:3",
        "",
        "unicode: repaired Unicode (12 changed)",
        "  web.jsonl:7",
        "    - …e begin‚ cafÃ© and more",
        "    + …e begin‚ café and more",
        "",
        "gopher: mostly symbols (1,234 dropped)",
        *text.splitlines()[11:13],
        *text.splitlines()[13:15],
    ]
    assert text.count("### !!! ###⏎second line") == 2


def test_no_line_is_wider_than_the_terminal(tmp_path: Path) -> None:
    long = record("gopher", "mostly symbols", "床前明月光" * 40, source="s" * 90)
    path = folder(tmp_path / "DATA", [long, long | {"action": "changed", "after": "疑是地上霜" * 40}])
    for width in (40, 41, 80):
        for line in show(path, 1, width).splitlines():
            assert sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) <= width


def test_what_a_terminal_would_obey_is_only_shown() -> None:
    shown = one_line("a\x1b[31mred\x07\u202eback\r\x9b2J\ttab")
    assert shown == "a\\x1b[31mred\\x07\\x202eback\\x0d\\x9b2J tab"


def test_nothing_and_nonsense(tmp_path: Path) -> None:
    path = folder(tmp_path / "DATA", [])
    assert "nothing was put aside" in show(path)
    with pytest.raises(ValueError, match="at least one"):
        show(path, 0)
    with pytest.raises(ValueError, match="genus prepare"):
        show(tmp_path / "elsewhere")


def test_an_older_folder_counts_by_its_drops(tmp_path: Path) -> None:
    old = {"source": "a.csv", "line": 3, "reason": "bad table row", "excerpt": "x;y", "step": "csv"}
    path = folder(tmp_path / "DATA", [old], drops={"bad table row": 5})
    file = path / "rejected" / "csv.jsonl"
    file.write_text(json.dumps({key: value for key, value in old.items() if key != "step"}) + "\n")
    assert show(path).splitlines()[0] == "read: bad table row (5 dropped)"
