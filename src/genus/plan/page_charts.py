"""The charts of a plan's page, from what `plan.json` holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from genus.plan.store import Branch, Json, Plan, plain
from genus.report.chart import Line, chart, clock, short
from genus.report.markup import figure

TIMES = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600, 36000, 86400, 864000, 8640000)  # seconds that have a short name
NEAR = 1.4  # a measured point belongs to the isoFLOP curve whose operations are nearest, if within this factor
AXES: dict[str, tuple[str, Callable[[float], str], str]] = {
    "seconds": ("training time", lambda value: duration(value), "Loss against training time"),
    "flops": ("training operations", short, "Loss against operations"),
    "memory": ("memory while training", lambda value: f"{short(value)}B", "Loss against memory, for the whole budget"),
    "decode": ("time per generated token", lambda value: duration(value), "Loss against decoding, for the whole budget"),
}


def duration(seconds: float) -> str:
    """`30 µs`, `0.2 ms`, `45 s`, `1 min`, `10 min`, `1 h`."""
    for limit, scale, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit * (1 - 1e-9):
            return f"{seconds * scale:.3g} {unit}"
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds % limit == 0:
            return f"{seconds / limit:.3g} {unit}"
    return clock(seconds)


def colours(plan: Plan) -> dict[str, int]:
    """A colour for each branch, the same in every chart."""
    return {name: i for i, name in enumerate(plan.branches)}


def loss_name(plan: Plan) -> str:
    return "bits per byte"


def frontiers(plan: Plan) -> list[str]:
    """Loss against everything that is spent, all branches in one chart each."""
    figures = []
    for by, (label, text, caption) in AXES.items():
        lines = []
        for name, colour in colours(plan).items():
            lines += _frontier(plan.branches[name], by, name, colour)
        if not lines:
            continue
        if by == "seconds":
            at = plan.budget.get("train") or plan.recommendation.seconds
            lines.append(Line([(float(at), 0.0)], 0, "upright", f"the budget of the run: {clock(at)}"))
        marks = TIMES if by in ("seconds", "decode") else ()
        figures.append(figure(chart(lines, label, loss_name(plan), text, short, log=True, marks=marks), caption))
    return figures


def _frontier(branch: Branch, by: str, name: str, colour: int) -> list[Line]:
    rows = _finite(branch.frontier.get(by) or {}, ("budgets", "loss", "low", "high"))
    if not rows:
        return []
    points, band = [(x, y) for x, y, _, _ in rows], [(x, low, high) for x, _, low, high in rows]
    if by in ("memory", "decode"):
        return [Line(points, colour, "marks", name)]
    lines = [Line(points, colour, "line", name, band)]
    measured = [(float(r[by]), float(r["loss"])) for r in branch.rows if r.get(by) and r.get("loss")]
    return [*lines, Line(measured, colour, "dots", f"{name}, measured")]


def isoflops(plan: Plan) -> list[str]:
    """For every branch with sizes: loss against size for equal operations, curves as fitted and points as measured."""
    figures = []
    for name, branch in plan.branches.items():
        curves = [c for c in branch.isoflop if c.get("flops") and _finite(c, ("params", "loss"))]
        lines: list[Line] = []
        for i, curve in enumerate(curves):
            label = f"{short(curve['flops'])} operations"
            lines.append(Line(_finite(curve, ("params", "loss")), i, "line", label))
            lines.append(Line(_measured(branch.rows, curves, i), i, "dots", f"{label}, measured"))
        picture = chart(lines, "parameters", loss_name(plan), short, short, log=True)
        figures.append(figure(picture, f"{name}: loss against size for equal operations", [short(c["flops"]) for c in curves]))
    return [f for f in figures if f]


def _measured(rows: Sequence[Json], curves: Sequence[Json], index: int) -> list[tuple[float, float]]:
    """Points whose operations are nearest to those of a curve."""
    points = []
    for row in rows:
        if not row.get("flops") or not row.get("loss"):
            continue
        away = [abs(math.log(row["flops"] / curve["flops"])) for curve in curves]
        if min(away) == away[index] <= math.log(NEAR):
            points.append((float(row["params"]), float(row["loss"])))
    return points


def residuals(plan: Plan) -> str:
    """Predicted against measured, of the points that were fitted."""
    lines = []
    for name, colour in colours(plan).items():
        points = [
            (float(r["tokens"]), float(r["predicted"]) / float(r["loss"]) - 1)
            for r in plan.branches[name].rows
            if r.get("predicted") and r.get("loss") and r.get("tokens")
        ]
        lines.append(Line(points, colour, "dots", name))
    if not any(line.points for line in lines):
        return ""
    lines.append(Line([(max(x for line in lines for x, _ in line.points), 0.0)], 0, "level", "no error"))
    return figure(chart(lines, "training tokens", "error", short, signed, log=True), "Fitted against measured, small runs")


def prediction(plan: Plan) -> str:
    """The curve of the recommended run, cooled down at each number of tokens."""
    rows = [(r.get("tokens"), r.get("bpb"), r.get("low"), r.get("high")) for r in plan.recommendation.curve]
    kept: list[Any] = [r for r in rows if None not in r]
    colour = colours(plan).get(plan.recommendation.branch, 0)
    line = Line([(x, y) for x, y, _, _ in kept], colour, "dashed", "predicted", [(x, low, high) for x, _, low, high in kept])
    picture = chart([line], "training tokens", loss_name(plan), short, short, log=True)
    return figure(picture, "The recommended run, if it were cooled down after so many tokens")


def signed(value: float) -> str:
    """`+1.1 %`, `-0.06 %`, `0 %`."""
    rounded = round(100 * value, 2)
    return f"{rounded:+.3g} %" if rounded else "0 %"


def _finite(columns: Json, names: Sequence[str]) -> list[Any]:
    """Rows of the columns in which every number is there."""
    if not all(n in columns for n in names):
        return []
    rows = zip(*(plain(columns[n]) for n in names))
    return [row for row in rows if None not in row]
