"""What a report needs of a run directory, whatever part of it exists.

A run may be unfinished, counted instead of trained (no training lines), or written by an older version: every field may be
missing, and a line of `metrics.jsonl` that was cut short by a kill is left out.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Points = list[tuple[float, float]]


@dataclass
class RunData:
    """A run as the report sees it.

    Attributes:
        name: unique among the runs of a page. config: run.json. training, evaluations, samples, events: the lines of
            metrics.jsonl by kind. prediction, verdict, evaluation, results: what the files of these names hold, or None.
    """

    name: str
    path: Path
    config: Record = field(default_factory=dict)
    training: list[Record] = field(default_factory=list)
    evaluations: list[Record] = field(default_factory=list)
    samples: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    prediction: Any = None
    verdict: Any = None
    evaluation: Any = None
    results: Any = None

    def curve(self, x: str, y: str) -> Points:
        """Points of the training lines that have both fields."""
        return points(self.training, x, y)

    @property
    def measure(self) -> str:
        """What it is judged by: "bpb", or "loss" where the loss of its objective has no bits per byte."""
        lines = [*self.evaluations, *self.training]
        return "bpb" if not lines or any("bpb" in line for line in lines) else "loss"

    def validation(self, x: str, y: str | None = None) -> Points:
        """Points of the evaluations on the validation split; `y` None = what it is judged by."""
        lines = [r for r in self.evaluations if r.get("split", "validation") == "validation"]
        return points(lines, x, y or self.measure)

    def predicted(self) -> list[tuple[float, float, float, float]]:
        """(tokens, bits per byte, low, high) of the prediction made before training, in the order of tokens."""
        curve = self.prediction.get("curve") if isinstance(self.prediction, dict) else None
        rows = []
        for row in curve if isinstance(curve, list) else []:
            x, y = (number(row.get(k)) for k in ("tokens", "bpb")) if isinstance(row, dict) else (None, None)
            if x is not None and y is not None:
                low, high = number(row.get("low")), number(row.get("high"))
                rows.append((x, y, y if low is None else low, y if high is None else high))
        return sorted(rows)

    def final(self) -> float | None:
        """What it is judged by on the validation split at the end."""
        curve = self.validation("step")
        if curve:
            return curve[-1][1]
        return number(dig(self.config, "finished", "validation", self.measure))

    def last(self, key: str) -> float | None:
        """The last value of a field, over training and evaluation lines."""
        values = [v for r in [*self.training, *self.evaluations] if (v := number(r.get(key))) is not None]
        best = max(values, default=None)
        return best if key in ("tokens", "seconds", "step", "rss_mb") else (values[-1] if values else None)

    def median(self, key: str) -> float | None:
        """The median of a field of the training lines, the first tenth (compilation, warm caches) left out."""
        values = [v for r in self.training if (v := number(r.get(key))) is not None]
        values = sorted(values[len(values) // 10 :])
        return values[len(values) // 2] if values else None


def read(path: str | Path) -> RunData:
    """Read a run directory.

    Raises:
        FileNotFoundError: it has neither run.json nor metrics.jsonl.
    """
    path = Path(path)
    if not (path / "run.json").is_file() and not (path / "metrics.jsonl").is_file():
        raise FileNotFoundError(f"{path} is not a run: it has no run.json and no metrics.jsonl")
    config = _json(path / "run.json")
    run = RunData(path.resolve().name, path, config if isinstance(config, dict) else {})
    run.prediction, run.verdict = _json(path / "prediction.json"), _json(path / "verdict.json")
    run.evaluation, run.results = _json(path / "evaluation.json"), _json(path / "results.json")
    kinds = {"eval": run.evaluations, "sample": run.samples, "event": run.events}
    for record in _lines(path / "metrics.jsonl"):
        kinds.get(str(record.get("kind", "")), run.training if "loss" in record else []).append(record)
    return run


def read_all(paths: list[Path]) -> list[RunData]:
    """Read several runs and give those with the same folder name longer ones."""
    runs = [read(p) for p in paths]
    names = [r.name for r in runs]
    for i, run in enumerate(runs):
        if names.count(names[i]) > 1:
            run.name = f"{run.path.resolve().parent.name}/{run.name}"
            if [r.name for r in runs].count(run.name) > 1:
                run.name += f" ({i + 1})"
    return runs


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def points(records: list[Record], x: str, y: str) -> Points:
    """(x, y) of the records that have both."""
    pairs = [(number(r.get(x)), number(r.get(y))) for r in records]
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def dig(value: Any, *keys: str) -> Any:
    """The value below nested keys, None when any is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _lines(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
