"""The page of a tuned run: the table, every seed, what is taken for what, how far to trust its confidence, its worst errors.

It is written from the run's files alone, opens from disk, and loads nothing. Every text is escaped.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from genus.report.chart import Line, chart, clock, percent, short
from genus.report.markup import document, facts, figure, table
from genus.run import Run, write_atomic
from genus.tune.metrics import BINS, binned, calibration_error, reliability
from genus.tune.results import Row, text

FILE = "report.html"
CLASSES = 20  # of the confusion matrix
ERRORS = 12
EXCERPT = 300
KEPT = "kept"  # the split name of the final model's predictions


def write(run: Run) -> Path:
    """Write the page into the run."""
    target = run.path / FILE
    results = json.loads((run.path / "results.json").read_text(encoding="utf-8"))
    write_atomic(target, page(run.config, results, list(_lines(run.path / "predictions.jsonl")), _curves(run.path)))
    return target


def page(
    config: dict[str, Any],
    results: dict[str, Any],
    predictions: Sequence[dict[str, Any]],
    curves: dict[str, list[dict[str, Any]]],
) -> str:
    """The HTML.

    Args:
        config: run.json. results: results.json. predictions: lines of predictions.jsonl. curves: evaluations of each fit.
    """
    rows = [Row.from_json(row) for row in results["rows"]]
    primary = results["primary"]
    judged = [p for p in predictions if p["split"] != KEPT]  # of the seeds; the kept model's only repeat them
    sections = [
        f"<h1>{escape(str(config.get('source')))}: {escape(results['task'])}</h1>",
        _summary(config, results, rows, primary),
        _section("What the labels are worth", _table(rows, results, primary)),
        _section("Every fit", _trials(results, primary), _learning(curves, primary)),
        _section("What is taken for what", _confusion(judged)),
        _section("How far to trust its confidence", _calibration(judged)),
        _section("Its most confident errors", _errors(judged)),
        _section("What it writes", _texts(judged)),
        _section("The labels", _remarks(config)),
        _about(config),
    ]
    return document(f"Tuned for {results['task']}", [s for s in sections if s])


def _section(heading: str, *parts: str) -> str:
    body = "".join(p for p in parts if p)
    return f"<h2>{escape(heading)}</h2>{body}" if body else ""


def _summary(config: dict[str, Any], results: dict[str, Any], rows: Sequence[Row], primary: str) -> str:
    mine = rows[0]
    labels = config.get("labels", {})
    pairs = [
        (primary.replace("_", " "), text(mine, primary)),
        ("Rows to learn from", f"{labels.get('rows', 0):,}"),
        ("Parameters", short(config.get("parameters") or 0)),
        ("That learnt", short(mine.trainable)),
        ("Fits", f"{len(mine.scores)}"),
        ("Time of one fit", clock(mine.seconds)),
    ]
    if results.get("kept"):
        pairs.insert(1, (f"{primary.replace('_', ' ')}, model that is kept", f"{results['kept'].get(primary, math.nan):.3f}"))
    return facts(pairs, "facts big")


def _table(rows: Sequence[Row], results: dict[str, Any], primary: str) -> str:
    names = [primary, *(n for n in dict.fromkeys(n for r in rows for s in r.scores for n in s) if n not in (primary, "loss"))]
    order = sorted(rows, key=lambda r: -r.mean(primary) if not math.isnan(r.mean(primary)) else math.inf)
    best = order[0].name if order else ""
    cells = []
    for row in order:
        name = escape(row.name)
        note = f'<br><span class="dim">{escape(row.note)}</span>' if row.note else ""
        told = [(f"<b>{name}</b>" if row.name == best else name) + note, *(escape(text(row, n)) for n in names)]
        held = f"{row.memory / 1e6:,.0f} MB" if row.memory else "–"
        cells.append([*told, f"{row.labels:,.0f}", short(row.trainable) if row.trainable else "–", held, clock(row.seconds)])
    head = ["", *(escape(n.replace("_", " ")) for n in names), "labelled rows", "parameters that learn", "memory", "time"]
    judged = f"Judged on {results['judged']}; mean ± standard deviation over the fits. "
    judged += "Memory: weights, gradients and AdamW's averages; activations come on top."
    verdict = f"<p>{escape(results['verdict'])}</p>" if results.get("verdict") else ""
    return table(head, cells) + verdict + f'<p class="dim">{escape(judged)}</p>'


def _trials(results: dict[str, Any], primary: str) -> str:
    trials = results["trials"]
    if not trials:
        return ""
    names = [primary, *(n for n in trials[0]["test"] if n not in (primary, "loss"))]
    cells = [
        [
            escape(t["split"]),
            *(f"{t['test'].get(n, math.nan):.3f}" for n in names),
            f"{t['validation'].get(primary, math.nan):.3f}",
            f"{t['rows']:,}",
            f"{t['held']:,}",
            f"{t['best']:,} of {t['updates']:,}",
            clock(t["seconds"]),
        ]
        for t in trials
    ]
    head = ["", *(escape(n.replace("_", " ")) for n in names)]
    return table([*head, f"validation {escape(primary)}", "learnt from", "judged on", "best update", "time"], cells)


def _learning(curves: dict[str, list[dict[str, Any]]], primary: str) -> str:
    lines = []
    for i, (name, records) in enumerate(curves.items()):
        points = [(float(r["step"]), float(r[primary])) for r in records if r.get(primary) is not None]
        lines.append(Line(points, i, "marks", name))
    label = f"Validation {primary.replace('_', ' ')} while learning"
    drawn = figure(chart(lines, "updates", label, short, lambda v: f"{v:.2f}"), label, list(curves))
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _confusion(predictions: Sequence[dict[str, Any]]) -> str:
    pairs = [(str(p["label"]), str(p["prediction"])) for p in predictions if _is_class(p)]
    if not pairs:
        return ""
    counts = Counter(pairs)
    common = [label for label, _ in Counter(t for t, _ in pairs).most_common()]
    common += [g for g in dict.fromkeys(g for _, g in pairs) if g not in common]
    shown = sorted(common[:CLASSES])
    cells = []
    for label in shown:
        total = sum(count for (t, _), count in counts.items() if t == label)
        line = [escape(label)]
        for guess in shown:
            count = counts[label, guess]
            share = count / total if total else 0.0
            weight = f"background:color-mix(in srgb,var(--{'c2' if guess == label else 'c1'}) {70 * share:.0f}%,transparent)"
            line.append(f'<span style="{weight};padding:.1rem .5rem">{count:,}</span>' if count else '<span class="dim">0</span>')
        cells.append([*line, percent(counts[label, label] / total) if total else "–"])
    more = f'<p class="dim">The {len(shown)} most frequent of {len(common)} labels.</p>' if len(common) > len(shown) else ""
    note = '<p class="dim">Rows: what is right. Columns: what was said. All fits together.</p>'
    return table(["", *map(escape, shown), "right"], cells) + note + more


def _calibration(predictions: Sequence[dict[str, Any]]) -> str:
    told = [(p["probability"], p["label"] == p["prediction"]) for p in predictions if _is_class(p)]
    told = [(p, right) for p, right in told if isinstance(p, int | float)]
    if not told:
        return ""
    counted = binned(np.array([p for p, _ in told]), np.array([right for _, right in told]))
    bins = reliability(counted)
    lines = [
        Line([(0.0, 0.0), (1.0, 1.0)], 7, "dashed", "as sure as right"),
        Line([(sure, right) for sure, right, _ in bins], 0, "marks", "this model"),
    ]
    caption = f"Share that is right against probability, {BINS} bins; expected calibration error {calibration_error(counted):.3f}"
    drawn = figure(chart(lines, "probability", "share right", lambda v: f"{v:.1f}", lambda v: f"{v:.1f}", zero=True), caption)
    counts = table(["probability", "right", "rows"], [[f"{sure:.2f}", f"{right:.2f}", f"{n:,}"] for sure, right, n in bins if n])
    return f'<div class="charts">{drawn}{counts}</div>'


def _errors(predictions: Sequence[dict[str, Any]]) -> str:
    wrong = [p for p in predictions if _is_class(p) and p["label"] != p["prediction"]]
    wrong.sort(key=lambda p: -float(p.get("probability") or 0.0))
    known = ("split", "place", "label", "prediction", "probability")
    cells = []
    for p in wrong[:ERRORS]:
        read = " / ".join(str(v) for k, v in p.items() if k not in known)
        cells.append(
            [
                f'<span class="note">{escape(read[:EXCERPT])}{"…" if len(read) > EXCERPT else ""}</span>',
                escape(str(p["label"])),
                escape(str(p["prediction"])),
                f"{p.get('probability', math.nan):.3f}",
                escape(str(p["place"])),
            ]
        )
    note = '<p class="dim">Read these: some of them are labels that are wrong.</p>'
    return table(["text", "right", "said", "probability", "where"], cells) + note if cells else ""


def _texts(predictions: Sequence[dict[str, Any]]) -> str:
    """The first texts of a task that writes them, beside those that were wanted."""
    made = [p for p in predictions if isinstance(p.get("prediction"), str) and "probability" not in p and "start" not in p]
    known = ("split", "place", "label", "prediction")
    cells = []
    for p in made[:ERRORS]:
        read = " / ".join(v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in p.items() if k not in known)
        shown = (read[-EXCERPT:], str(p["label"])[:EXCERPT], p["prediction"][:EXCERPT])
        cells.append([*(f'<span class="note">{escape(text)}</span>' for text in shown), escape(str(p["place"]))])
    return table(["read (its end)", "wanted", "written", "where"], cells) if cells else ""


def _remarks(config: dict[str, Any]) -> str:
    remarks = config.get("labels", {}).get("remarks", [])
    return "<ul>" + "".join(f"<li>{escape(r)}</li>" for r in remarks) + "</ul>" if remarks else ""


def _about(config: dict[str, Any]) -> str:
    whole = escape(json.dumps(config, indent=1, ensure_ascii=False, default=str))
    return f"<details><summary>The whole run.json</summary><pre>{whole}</pre></details>"


def _is_class(prediction: dict[str, Any]) -> bool:
    texts = isinstance(prediction.get("label"), str) and isinstance(prediction.get("prediction"), str)
    return texts and "probability" in prediction and "start" not in prediction


def _curves(path: Path) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for folder in sorted((path / "fits").glob("*")):
        if (folder / "run.json").is_file():
            run = Run.open(folder)
            records = [r for r in run.metrics() if r.get("kind") == "eval"]
            if records:
                found[str(run.config.get("split", folder.name))] = records
    return found


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
