"""What the page can show: a tuned run, a run that trains, and models of several kinds."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import genus
from genus.spec import to_json

GOOD, BAD = ("good", "fine", "warm", "great"), ("bad", "dull", "cold", "poor")
PLAIN = ("the", "film", "is", "was", "and", "very", "a", "story", "so", "with")


def reviews(path: Path, count: int) -> Path:
    """Rows whose label shows in one word."""
    rng = random.Random(0)
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for i in range(count):
            words = [rng.choice(PLAIN) for _ in range(rng.randint(3, 8))]
            words.insert(rng.randrange(len(words)), rng.choice((BAD, GOOD)[i % 2]))
            table.writerow([" ".join(words), ("neg", "pos")[i % 2]])
    return path


@cache
def _critic() -> Path:
    """A classifier, trained once in a process."""
    folder = Path(mkdtemp(prefix="genus-critic-"))
    options = {"epochs": 8, "lr": 5e-3, "dropout": 0.0, "dtype": "fp32", "context": 128, "seeds": 1}
    rows = reviews(folder / "reviews.csv", 100)
    return genus.tune("bert", rows, folder / "critic", "dim=32", "depth=1", "heads=2", say=lambda _: None, **options).path


def tuned(folder: Path) -> Path:
    """A classifier in a folder."""
    return Path(shutil.copytree(_critic(), folder / "critic"))


def training(folder: Path, name: str, lines: int) -> Path:
    """A run that has written so many lines and has no model yet."""
    path = folder / name
    path.mkdir()
    made = genus.recipe("gpt2", dim=32, depth=2, heads=2, vocab=257, context=64)
    config = {"recipe": to_json(made), "parameters": made.parameters_total, "options": {}}
    (path / "run.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "metrics.jsonl").write_text("", encoding="utf-8")
    go_on(path, 0, lines)
    return path


def go_on(path: Path, first: int, lines: int) -> None:
    """More lines of its metrics."""
    with open(path / "metrics.jsonl", "a", encoding="utf-8") as file:
        for step in range(first, first + lines):
            bpb = 2 + 5 / (1 + step / 8) + 0.05 * math.sin(step)
            file.write(
                json.dumps({"step": step, "tokens": 512 * step, "seconds": 0.1 * step, "loss": bpb * 2, "bpb": bpb}) + "\n"
            )
