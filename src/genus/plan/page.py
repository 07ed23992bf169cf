"""The page of a plan: what to train and why, how sure that is, what everything costs, and what would change the advice.

It is written from `plan.json` alone, opens from disk, and loads nothing. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from genus.plan import page_charts as charts
from genus.plan.store import Branch, Choice, Json, Plan
from genus.report.chart import chance, clock, percent, short
from genus.report.markup import document, facts, size, swatch, table
from genus.run import write_atomic

FILE = "report.html"
NONE = "–"


def write(plan: Plan, folder: str | Path) -> Path:
    """Write the page into the plan's folder."""
    target = Path(folder) / FILE
    write_atomic(target, page(plan))
    return target


def page(plan: Plan) -> str:
    """The HTML."""
    name = Path(str(plan.data.get("path") or "data")).name
    title = f"Plan for {name}"
    if plan.budget.get("seconds"):
        title += f", {clock(plan.budget['seconds'])}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        _summary(plan),
        _said("Why", plan.recommendation.why),
        _said("What would change this advice", plan.recommendation.would_change),
        _said("Advice", plan.advice),
        _said("Warnings", plan.warnings),
        _next(plan),
        _section("Branches", _branches(plan)),
        _section("What a budget buys", _legend(plan), _charts(charts.frontiers(plan)), _crossings(plan)),
        _section("Size against data", _charts([*charts.isoflops(plan), charts.prediction(plan)]), _neighbours(plan)),
        _section("How far to trust it", _charts([charts.residuals(plan)]), _coverage(plan), _rolling(plan), _identifiable(plan)),
        _section("What it costs", _costs(plan)),
        _section("The small runs", _trials(plan)),
        _about(plan),
    ]
    return document(title, [s for s in sections if s])


def _summary(plan: Plan) -> str:
    best = plan.recommendation
    unit = charts.loss_name(plan)
    pairs = [
        ("Train", best.branch if best.recipe == best.branch else f"{best.branch} ({best.recipe})"),
        ("Parameters", short(best.params)),
        ("Tokens", short(best.tokens)),
        (f"Predicted, {unit}", f"{best.loss:.3f}"),
        ("90 % interval", f"{best.low:.3f} – {best.high:.3f}"),
        ("Time", clock(best.seconds)),
        ("Best branch with", NONE if best.probability is None else chance(best.probability)),
    ]
    if plan.options.price is not None:
        pairs.append(("Cost", f"{best.seconds / 3600 * plan.options.price:.2f}"))
    return facts(pairs, "facts big")


def _said(heading: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line[:1].upper() + line[1:])}</li>" for line in lines)
    return f"<h3>{escape(heading)}</h3><ul>{items}</ul>" if lines else ""


def _next(plan: Plan) -> str:
    folder = "PLAN" if plan.root is None else str(plan.root)
    return f"<h3>Next</h3><pre>genus train {escape(folder)} -o RUN\ngenus plan verify RUN</pre>"


def _section(heading: str, *parts: str) -> str:
    body = "".join(parts)
    return f"<h2>{escape(heading)}</h2>{body}" if body else ""


def _charts(figures: Sequence[str]) -> str:
    shown = "".join(figures)
    return f'<div class="charts">{shown}</div>' if shown else ""


def _legend(plan: Plan) -> str:
    names = "".join(swatch(i, name) for name, i in charts.colours(plan).items() if plan.branches[name].frontier)
    note = "Lines: the best run that a budget buys, with its 90 % interval. Dots: the small runs. Dotted: the budget of the run."
    return f'<div class="legend">{names}</div><p class="dim">{note}</p>' if names else ""


def _branches(plan: Plan) -> str:
    colour = charts.colours(plan)
    ranked = sorted(plan.branches.items(), key=lambda item: item[1].best.loss if item[1].best else float("inf"))
    rows = [[swatch(colour[name], name), *_branch(plan, branch)] for name, branch in ranked]
    head = ["Branch", "Parameters", "Tokens", charts.loss_name(plan).capitalize(), "90 % interval", "Time", "Memory"]
    return table([*map(escape, head), "Decoding", "Best with", ""], rows)


def _branch(plan: Plan, branch: Branch) -> list[str]:
    best, status = branch.best, branch.reason or ("" if branch.status == "alive" else branch.status)
    note = f'<span class="note">{escape(status)}</span>'
    if best is None:
        return [NONE] * 8 + [note]
    loss = f"{best.loss:.3f}"
    chosen = best == plan.recommendation
    return [
        short(best.params),
        short(best.tokens),
        f"<b>{loss}</b>" if chosen else loss,
        f"{best.low:.3f} – {best.high:.3f}",
        clock(best.seconds),
        NONE if best.memory is None else size(best.memory),
        _decoding(best),
        NONE if best.probability is None else escape(chance(best.probability)),
        "<b>recommended</b>" if chosen and not status else note,
    ]


def _neighbours(plan: Plan) -> str:
    rows = []
    for choice in (plan.recommendation, *plan.alternatives):
        name = escape(choice.name or choice.branch)
        figures = [short(choice.params), short(choice.tokens), f"{choice.loss:.3f}", f"{choice.low:.3f} – {choice.high:.3f}"]
        rows.append([f"<b>{name}</b>" if choice is plan.recommendation else name, *figures, clock(choice.seconds)])
    if len(rows) < 2:
        return ""
    head = ["Run", "Parameters", "Tokens", charts.loss_name(plan).capitalize(), "90 % interval", "Time"]
    return "<h3>Other sizes for at most the same time</h3>" + table([*map(escape, head)], rows)


def _decoding(choice: Choice) -> str:
    return f"{1 / choice.decode:,.0f} tokens/s" if choice.decode else NONE


def _crossings(plan: Plan) -> str:
    rows = []
    for row in plan.crossings:
        pair = [escape(str(row.get("first"))), escape(str(row.get("second")))]
        if row.get("middle") is None:
            reach = row.get("reach")
            rows.append([*pair, f"never within {clock(reach)}" if reach else "never", NONE, NONE])
        else:
            span = f"{clock(row['low'])} – {clock(row['high'])}"
            rows.append([*pair, clock(row["middle"]), span, escape(chance(row.get("probability") or 0.0))])
    if not rows:
        return ""
    return "<h3>Where one overtakes the other</h3>" + table(
        ["First", "Then", "From a training time of", "90 % interval", "Happens with"], rows
    )


def _coverage(plan: Plan) -> str:
    measured, nominal = plan.coverage.get("measured"), plan.coverage.get("nominal")
    if measured is None or nominal is None:
        return ""
    cases = plan.coverage.get("cases")
    count = f" ({cases:,} cases)" if isinstance(cases, int) else ""
    return f"<p>Intervals made this way are meant to hold {percent(nominal)} of runs, and held {percent(measured)}{count}.</p>"


def _rolling(plan: Plan) -> str:
    shown = [r for r in plan.rolling if r.get("form") == "blend"]
    rest = [r for r in plan.rolling if r.get("form") != "blend"]
    if not plan.rolling:
        return ""
    note = "Fitted to the small budgets only, and judged on the larger ones that were not seen."
    more = f"<details><summary>Every form by itself</summary>{_held(rest)}</details>" if rest else ""
    return f'<h3>Rolling origins</h3><p class="dim">{note}</p>{_held(shown or rest)}{more if shown else ""}'


def _held(lines: Sequence[Json]) -> str:
    rows = [
        [
            escape(str(r.get("branch", NONE))),
            escape(str(r.get("form", NONE))),
            _number(r.get("ratio"), lambda v: f"{v:.3g} ×"),
            _number(r.get("fitted"), short),
            _number(r.get("held"), short),
            _number(r.get("error"), charts.signed),
            _number(r.get("worst"), charts.signed),
        ]
        for r in lines
    ]
    return table(["Branch", "Form", "Beyond", "Points fitted", "Points judged", "Median error", "Worst"], rows)


def _identifiable(plan: Plan) -> str:
    rows = []
    for name, value in plan.identifiability.items():
        if not isinstance(value, dict):
            continue
        spread = value.get("spread") or {}
        exponents = "; ".join(f"{k} {ends[0]:.2g} – {ends[1]:.2g}" for k, ends in spread.items())
        low, high = value.get("error") or (None, None)
        rows.append(
            [
                escape(name),
                _number(value.get("budgets"), short),
                _number(value.get("sizes"), short),
                _number(value.get("collinearity"), lambda v: f"{v:.2f}"),
                _number(value.get("condition"), short),
                escape(exponents) or NONE,
                _number(value.get("regret"), lambda v: f"{v:.2%}"),
                NONE if low is None or high is None else f"{charts.signed(low)} to {charts.signed(high)}",
                f'<span class="note">{escape(str(value["refused"]))}</span>' if value.get("refused") else "",
            ]
        )
    if not rows:
        return ""
    head = [
        "Branch",
        "Budgets",
        "Sizes",
        "R² of log D on log N",
        "Condition",
        "Exponents, 90 %",
        "Regret",
        "Error at the target",
        "",
    ]
    note = "What the planned small runs could tell, computed before they were paid for."
    return f'<h3>Identifiability</h3><p class="dim">{note}</p>' + table(head, rows)


def _costs(plan: Plan) -> str:
    rows = []
    for name, branch in plan.branches.items():
        rows += [[escape(name), *_cost(rung, branch.best)] for rung in branch.ladder]
    if not rows:
        return ""
    head = ["Branch", "Parameters", "Without embedding", "Multiplied per token", "Operations per token", "Tokens per second"]
    return table([*head, "Memory", "Decoding"], rows)


def _cost(rung: Json, best: Choice | None) -> list[str]:
    total = _number(rung.get("total"), short)
    chosen = best is not None and rung.get("total") == best.params
    return [
        f"<b>{total}</b>" if chosen else total,
        _number(rung.get("non_embedding"), short),
        _number(rung.get("effective"), short),
        _number(rung.get("flops"), short),
        _number(rung.get("tokens_per_s"), short),
        _number(rung.get("memory"), size),
        _number(rung.get("decode"), charts.duration),
    ]


def _trials(plan: Plan) -> str:
    rows = []
    for name, branch in plan.branches.items():
        for trial in branch.trials:
            points = trial.get("points") or []
            first = (trial.get("parameters") or {}).get("total") or (points[-1].get("parameters") if points else None)
            figures = ", ".join(f"{p['bpb']:.3f}" for p in points if p.get("bpb") is not None)
            status = "" if trial.get("status") == "done" else f"{trial.get('status')}: {trial.get('reason', '')}"
            rows.append(
                [
                    escape(name),
                    _number(first, short),
                    ", ".join(short(p["tokens"]) for p in points if p.get("tokens")) or NONE,
                    figures or NONE,
                    _number(trial.get("seconds"), clock),
                    _number(trial.get("peak_memory"), size),
                    f'<span class="note">{escape(status)}</span>',
                ]
            )
    if not rows:
        return ""
    return table(["Branch", "Parameters", "Tokens", charts.loss_name(plan).capitalize(), "Time", "Peak memory", ""], rows)


def _about(plan: Plan) -> str:
    pairs = [
        ("Data", f"{plan.data.get('path', NONE)} ({short(plan.data['tokens'])} tokens)" if plan.data.get("tokens") else NONE),
        ("Small runs", clock(plan.budget["sweep"]) if plan.budget.get("sweep") else NONE),
        ("Machine", ", ".join(f"{k} {v}" for k, v in plan.machine.items() if isinstance(v, str | int | float)) or NONE),
        ("Genus", plan.genus),
        ("Hash of the plan", plan.hash),
    ]
    return "<h2>About</h2>" + facts(pairs)


def _number(value: Any, text: Any) -> str:
    """A number as text, or a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NONE
    return escape(text(value))
