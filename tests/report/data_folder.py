"""A prepared folder as `genus prepare` leaves it, without its shards: what a page of it may find."""

import json
from pathlib import Path
from typing import Any

HOSTILE = "</pre><script>alert('x')</script><img src=https://example.org/a.png>&amp;"


def manifest() -> dict[str, Any]:
    split = {"documents": 6000, "tokens": 900_000, "bytes": 3_600_000, "characters": 2_000_000, "shards": []}
    small = {key: value // 20 for key, value in split.items() if key != "shards"} | {"shards": []}
    return {
        "format": "genus-dataset",
        "version": 2,
        "fingerprint": "ab12",
        "tokenizer": {"kind": "bpe", "vocab_size": 8192, "description": "8,192 entries: byte-level BPE, lossless"},
        "splits": {"train": split, "validation": small, "test": dict.fromkeys(small, 0) | {"shards": []}},
        "split_rule": "by document hash",
        "drops": {"mostly symbols": 700, "near-duplicate": 1200},
        "sources": [
            {
                "name": "web <b>.jsonl.zst", "kind": "jsonl.zst", "size": 1, "documents": 9000, "tokens": 800_000, "rejected": 40,
                "group": "web", "dropped": {"read": 40, "gopher": 700, "near-duplicates": 1200},
            },
            {"name": "books/", "kind": "text", "size": 1, "documents": 300, "stored": 750, "tokens": 145_000, "rejected": 0},
        ],
        "mixture": [
            {"name": "web", "documents": 5500, "bytes": 3_000_000, "tokens": 800_000, "copies": 1.0},
            {"name": "books", "documents": 800, "bytes": 780_000, "tokens": 145_000, "copies": 2.5},
        ],
        "funnel": [
            {"step": "read", "documents": 9300, "bytes": 5_200_000, "dropped": {"not valid JSON": 40}},
            {"step": "unicode", "documents": 9300, "bytes": 5_190_000, "changed": {"repaired Unicode": 88}},
            {
                "step": "language", "documents": 8200, "bytes": 4_600_000, "dropped": {"another language": 1100}, "changed": {},
                "counts": {"language=en": 6000, "language=zh-Hans": 2200, "language=fr": 1100, "looked at": 9300},
            },
            {"step": "gopher", "documents": 7500, "bytes": 4_300_000, "dropped": {"mostly symbols": 700}},
            {
                "step": "classifier", "documents": 7500, "bytes": 4_300_000, "dropped": {}, "changed": {},
                "counts": {
                    "score=0.1": 500, "score=0.5": 5000, "score=0.9": 2000, "score dropped=0.1": 500, "score dropped=0.5": 10,
                },
            },
            {
                "step": "near-duplicates", "documents": 6300, "bytes": 3_780_000, "dropped": {"near-duplicate": 1200},
                "facts": {"clusters": 400, "largest": 31, "settings": {"bands": 20}},
            },
        ],
        "histograms": {
            "read": {"length": {"edges": [64, 128, 256, 512, 1024], "counts": [900, 4000, 4000, 400]}},
            "kept": {
                "length": {"edges": [128, 256, 512, 1024], "counts": [2300, 3700, 300]},
                "language": {"en": 4300, "zh-Hans": 2000},
                "gopher.symbols": {"edges": [0.0, 0.1, 0.2, 0.3], "counts": [6000, 290, 10]},
            },
        },
        "vocabulary": {
            "entries": 8191, "used": 8000, "rare": 120, "tokens": 893_000, "unknown": 0,
            "coverage": [[1, 0.05], [10, 0.2], [100, 0.5], [1000, 0.8], [8191, 1.0]],
            "ranks": [[1, 44_000], [10, 9000], [100, 900], [1000, 90], [8000, 1]],
            "kinds": {"letters": [6000, 5900, 0.7], "Chinese": [1800, 1790, 0.2], "part of a character": [391, 310, 0.1]},
            "frequent": [[" the", 44_000], ["，\n", 30_000]], "unused": ["ÿ" + HOSTILE],
        },
        "remarks": ["a remark " + HOSTILE],
        "files_left_aside": {".png": 3, "": 2},
        "options": {"tokenizer": "bpe"},
    }  # fmt: skip


RECORDS = [
    {
        "source": "web.jsonl", "line": 3, "step": "read", "action": "dropped", "reason": "not valid JSON",
        "excerpt": '{"text": ' + HOSTILE,
    },
    {
        "source": "web.jsonl", "line": 9, "name": "http://example.org/a", "step": "unicode", "action": "changed",
        "reason": "repaired Unicode", "excerpt": "a cafÃ© in Paris", "after": "a café in Paris",
    },
    {
        "source": "web.jsonl", "line": 5, "step": "gopher", "action": "dropped", "reason": "mostly symbols",
        "excerpt": "#### 春眠不覺曉 ####",
    },
    {
        "source": "web.jsonl", "line": 6, "step": "near-duplicates", "action": "dropped", "reason": "near-duplicate",
        "excerpt": "much the same", "instead": {"source": "books/a.txt", "line": 0, "name": "part <1>"},
    },
]  # fmt: skip


def write_data(path: Path, **changes: Any) -> Path:
    """The folder; a change of None takes a part of the manifest away."""
    (path / "rejected").mkdir(parents=True)
    told = {key: value for key, value in (manifest() | changes).items() if value is not None}
    (path / "manifest.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    for record in RECORDS:
        with open(path / "rejected" / f"{record['step']}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path
