"""A run directory with everything a report may find in it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genus
from genus.spec import to_json

HOSTILE = "</pre><script>alert('x')</script><img src=https://example.org/a.png>&amp;"


def write_run(
    path: Path, recipe: str = "gpt2", steps: int = 600, floor: float = 1.9, speed: float = 21000.0, **extra: Any
) -> Path:
    path.mkdir(parents=True)
    made = genus.recipe(recipe, dim=64, depth=2, heads=2, vocab=512, context=128)
    config = {
        "recipe": to_json(made),
        "parameters": made.parameters_total,
        "data": {"path": "data/黙示録", "fingerprint": "ab12", "bytes_per_token": 3.1},
        "versions": {"genus": "0.1", "torch": "2.13"},
        "machine": {"device": "cpu", "cores": 2},
        "seed": 7,
        "options": {"note": HOSTILE},
        **extra,
    }
    (path / "run.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    records: list[dict[str, Any]] = [{"kind": "event", "step": 3, "message": "NaN in the gradient, update skipped " + HOSTILE}]
    for step in range(0, steps + 1, 2):
        bpb = floor + 5 / (1 + step / 8) + 0.05 * math.sin(step * 1.7)
        record = {"step": step, "tokens": 4096 * step, "seconds": 4096 * step / speed}
        loss = bpb * math.log(2) * 3.1
        more = {
            "lr": 1e-3 * min(1, step / 50),
            "grad_norm": 0.5 + 1 / (step + 1),
            "tokens_per_s": speed,
            "mfu": 0.41,
            "rss_mb": 512.0,
        }
        records.append({**record, "loss": loss, "bpb": bpb, **more})
        if step % 100 == 0:
            held = floor + 0.1 + 5 / (1 + step / 8)
            records.append({**record, "kind": "eval", "split": "validation", "loss": held * 2.1, "bpb": held})
    records.append({"kind": "sample", "step": steps, "text": "春眠不覺曉 " + HOSTILE})
    lines = [json.dumps(r, ensure_ascii=False) for r in records]
    (path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 9, "lo', encoding="utf-8")
    curve = [
        {"tokens": t, "bpb": 2.1 + 2e5 / (t + 5e4), "low": 2.0 + 2e5 / (t + 5e4), "high": 2.2 + 2e5 / (t + 5e4)}
        for t in range(200_000, 2_400_000, 200_000)
    ]
    (path / "prediction.json").write_text(json.dumps({"curve": curve}))
    return path


def write_counted(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"source": "ngram", "parameters": 812345, "recipe": {"name": "ngram"}}))
    record = {"kind": "eval", "split": "validation", "step": 1, "tokens": 1_000_000, "seconds": 3.5, "loss": 4.5, "bpb": 2.2222}
    (path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    return path


@pytest.fixture
def full_run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "big <run>")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    return lambda name, **options: write_run(tmp_path / name, **options)


@pytest.fixture
def counted_run(tmp_path: Path) -> Path:
    return write_counted(tmp_path / "ngram")
