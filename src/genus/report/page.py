"""The page: facts, curves, parts, samples, evaluations of one run or of several side by side.

All text that comes from a run is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from genus.report.anatomy import anatomy
from genus.report.chart import Line, chart, clock, percent, short
from genus.report.markup import document, facts, figure, size, swatch, table
from genus.report.read import RunData, dig, number
from genus.report.words import translator

SAMPLES = 6  # of a run that are shown, the newest last
EVENTS = 50

TITLES = {  # of the figure and the two curves, by what a run is judged by
    "bpb": ("Validation, bits per byte", "Bits per byte against tokens", "Bits per byte against time"),
    "loss": ("Validation loss", "Loss against tokens", "Loss against time"),
}

Words = Callable[[str], str]


def page(runs: Sequence[RunData], language: str = "en") -> str:
    """The HTML of a report.

    Args:
        language: of the labels, "en" or "zh".
    """
    t = translator(language)
    single = len(runs) == 1
    title = runs[0].name if single else f"{t('Comparison')}: {', '.join(r.name for r in runs)}"
    body = [f"<h1>{escape(title)}</h1>"]
    body += [_summary(runs[0], t)] if single else [_comparison(runs, t)]
    body += [line for run in runs if (line := _verdict(run, t, "" if single else run.name))]
    body.append(_curves(runs, t))
    for run in runs:
        body.append("" if single else f"<h2>{escape(run.name)}</h2>")
        body.append(_details(run, t))
    return document(title, body, language)


def _summary(run: RunData, t: Words) -> str:
    """The figures of one run, large."""
    return facts([(label, text) for label, text, _ in _figures(run, t, run.measure)], "facts big")


def _verdict(run: RunData, t: Words, name: str) -> str:
    """What was predicted of the run and what it reached, if `genus plan verify` has compared them."""
    figures = [number(dig(run.verdict, k)) for k in ("predicted", "low", "high", "achieved", "error")]
    if any(v is None for v in figures):
        return ""
    predicted, low, high, achieved, error = (v for v in figures if v is not None)
    place = t("inside the interval") if low <= achieved <= high else t("outside the interval")
    text = (
        f"{t('Predicted before training')}: {predicted:.4f} ({low:.4f} – {high:.4f}). "
        f"{t('Reached')}: {achieved:.4f}, {place}, {error:+.2%}."
    )
    return f"<p>{f'<b>{escape(name)}</b> ' if name else ''}{escape(text)}</p>"


def _measure(runs: Sequence[RunData]) -> str:
    """Bits per byte, if any of the runs has them; they can be compared, and losses of different objectives cannot."""
    return "bpb" if any(run.measure == "bpb" for run in runs) else "loss"


def _figures(run: RunData, t: Words, measure: str) -> list[tuple[str, str, float | None]]:
    """(label, text, value) of what a run is judged by."""

    def figure(label: str, value: float | None, text: Callable[[float], str]) -> tuple[str, str, float | None]:
        return t(label), "–" if value is None else text(value), value

    return [
        figure(TITLES[measure][0], run.final() if run.measure == measure else None, lambda v: f"{v:.4f}"),
        figure("Parameters", number(run.config.get("parameters")), lambda v: f"{v:,.0f}"),
        figure("Tokens", run.last("tokens"), short),
        figure("Time", run.last("seconds"), clock),
        figure("Tokens per second", run.median("tokens_per_s"), short),
        figure("Of the matmul ceiling", run.median("mfu"), percent),
        figure("Peak memory", run.last("rss_mb"), lambda v: f"{v:,.0f} MB"),
    ]


def _comparison(runs: Sequence[RunData], t: Words) -> str:
    measure = _measure(runs)
    best = min((v for r in runs if r.measure == measure and (v := r.final()) is not None), default=None)
    rows = []
    for i, run in enumerate(runs):
        cells = [swatch(i, run.name), escape(_recipe_name(run))]
        for column, (_, text, value) in enumerate(_figures(run, t, measure)):
            bold = column == 0 and value is not None and value == best
            cells.append(f"<b>{escape(text)}</b>" if bold else escape(text))
        rows.append(cells)
    head = [t("Run"), t("Recipe"), *(label for label, _, _ in _figures(runs[0], t, measure))]
    note = f'<p class="dim">{t("Lower is better. The lowest is in bold.")}</p>'
    return table(head, rows) + note


def _curves(runs: Sequence[RunData], t: Words) -> str:
    _, against_tokens, against_time = TITLES[_measure(runs)]
    figures = [
        _figure(_loss_lines(runs, "tokens", t), against_tokens, t("tokens"), short, short, t),
        _figure(_loss_lines(runs, "seconds", t), against_time, t("time"), clock, short, t),
    ]
    for key, label, text, x in (
        ("tokens_per_s", "Tokens per second", short, "seconds"),
        ("mfu", "Fraction of the matmul ceiling", percent, "seconds"),
        ("lr", "Learning rate", short, "tokens"),
        ("grad_norm", "Gradient norm", short, "tokens"),
        ("rss_mb", "Memory, MB", short, "seconds"),
    ):
        lines = [Line(run.curve(x, key), i, name=run.name) for i, run in enumerate(runs)]
        x_text = clock if x == "seconds" else short
        figures.append(_figure(lines, label, t("time" if x == "seconds" else "tokens"), x_text, text, t, zero=True))
    shown = [f for f in figures if f]
    if not shown:
        return f'<p class="dim">{t("No training lines yet.")}</p>'
    notes = ["Faint: training loss, neighbouring steps averaged. With marks: validation."]
    notes += ["Dotted: a model that was counted, not trained step by step."] if any(map(_is_level, runs)) else []
    notes += ["Dashed: predicted before training."] if any(r.predicted() for r in runs) else []
    names = "".join(swatch(i, run.name) for i, run in enumerate(runs)) if len(runs) > 1 else ""
    legend = f'<div class="legend">{names}</div>' if names else ""
    note = f'<p class="dim">{" ".join(t(n) for n in notes)}</p>'
    return f'<h2>{t("Learning")}</h2>{legend}{note}<div class="charts">{"".join(shown)}</div>'


def _loss_lines(runs: Sequence[RunData], x: str, t: Words) -> list[Line]:
    lines: list[Line] = []
    measure = _measure(runs)
    for i, run in enumerate(runs):
        if run.measure != measure:
            continue
        if x == "tokens" and (predicted := run.predicted()):
            curve = [(a, b) for a, b, _, _ in predicted]
            band = [(a, low, high) for a, _, low, high in predicted]
            lines.append(Line(curve, i, "dashed", f"{run.name}, {t('predicted before training')}", band))
        lines.append(Line(run.curve(x, measure), i, "thin", f"{run.name}, {t('training')}"))
        validation = run.validation(x)
        name = f"{run.name}, {t('validation')}"
        lines.append(Line(validation, i, "marks", name))
        if _is_level(run):
            lines.append(Line(validation, i, "level", name))
    return lines


def _is_level(run: RunData) -> bool:
    """Whether the run has one figure instead of a curve."""
    return not run.training and len(run.validation("step")) == 1


def _figure(
    lines: Sequence[Line],
    label: str,
    x_label: str,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    t: Words,
    zero: bool = False,
) -> str:
    return figure(chart(lines, x_label, t(label), x_text, y_text, zero), t(label))


def _details(run: RunData, t: Words) -> str:
    config = run.config
    machine = config.get("machine")
    pairs = [
        (t("Recipe"), _recipe_name(run)),
        (t("Data"), str(dig(config, "data", "path") or "–")),
        (t("Machine"), ", ".join(f"{k} {v}" for k, v in machine.items()) if isinstance(machine, dict) else str(machine or "–")),
        (t("Seed"), str(config.get("seed", "–"))),
    ]
    pairs += [(k, str(v)) for k, v in config["versions"].items()] if isinstance(config.get("versions"), dict) else []
    out = [facts(pairs)]
    out.append(_parts(run, t))
    out.append(_evaluations(run, t))
    out.append(_before_and_after(run, t))
    if run.samples:
        out.append(f"<h3>{t('Samples')}</h3>")
        for sample in run.samples[-SAMPLES:]:
            step = number(sample.get("step"))
            out.append(f'<p class="dim">{t("step")} {step:,.0f}</p>' if step is not None else "")
            out.append(f'<pre class="text">{escape(str(sample.get("text", "")))}</pre>')
    if run.events:
        out.append(f"<h3>{t('Events')}</h3>")
        for event in run.events[-EVENTS:]:
            where = f"{t('step')} {number(event.get('step')) or 0:,.0f}"
            out.append(f'<p><span class="dim">{where}</span> {escape(str(event.get("message", "")))}</p>')
    if config:
        text = escape(json.dumps(config, indent=1, ensure_ascii=False, default=str))
        out.append(f"<details><summary>{t('The whole run.json')}</summary><pre>{text}</pre></details>")
    return "\n".join(out)


def _parts(run: RunData, t: Words) -> str:
    rows = anatomy(run.config.get("recipe"), dig(run.config, "recipe", "training", "context"))
    if not rows:
        return ""
    total, work = sum(r.parameters for r in rows), sum(r.flops for r in rows)
    cells = [
        [
            escape(r.name),
            f"{r.count:,}",
            f"{r.parameters:,}",
            percent(r.parameters / total) if total else "–",
            size(r.bytes),
            f"{short(r.flops)} ({percent(r.flops / work)})" if r.flops else "–",
        ]
        for r in rows
    ]
    foot = [t("Total"), "", f"{total:,}", "", size(sum(r.bytes for r in rows)), short(work) if work else "–"]
    head = [t(h) for h in ("Part", "Number", "Parameters", "Share", "Stored", "Operations per token")]
    return f"<h3>{t('Where the parameters are')}</h3>" + table(head, cells, foot)


def _evaluations(run: RunData, t: Words) -> str:
    rows = list(scores(run.evaluation))
    if not rows:
        return ""
    columns = list(dict.fromkeys(k for _, values in rows for k in values))
    cells = [[escape(name), *(escape(values.get(c, "–")) for c in columns)] for name, values in rows]
    grid = table(["", *(escape(c.replace("_", " ")) for c in columns)], cells)
    notes = "<br>".join(escape(note) for note in remarks(run.evaluation))
    return f"<h3>{t('Evaluation')}</h3>{grid}" + (f'<p class="dim">{notes}</p>' if notes else "")


def _before_and_after(run: RunData, t: Words) -> str:
    """What continued pre-training did to what the model knew, if it was measured."""
    before, after = (dig(run.results, k) for k in ("before", "after"))
    if not isinstance(before, dict) or not isinstance(after, dict):
        return ""
    cells = []
    for corpus, label in (("new", t("new data")), ("old", t("old data"))):
        told = after.get(corpus)
        for name in told if isinstance(told, dict) else ():
            a, b = number(dig(before, corpus, name)), number(dig(told, name))
            if a is not None and b is not None:
                cells.append([escape(f"{label}, {name.replace('_', ' ')}"), f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}"])
    return f"<h3>{t('Before and after')}</h3>" + table(["", t("before"), t("after"), t("change")], cells)


def scores(value: Any, name: str = "model") -> Iterable[tuple[str, dict[str, str]]]:
    """Every object of an evaluation.json that has a figure in bits per byte or a named value, with its other figures as text."""
    if isinstance(value, list):
        for item in value:
            yield from scores(item, name)
    if not isinstance(value, dict):
        return
    if any(number(value.get(k)) is not None for k in ("bits_per_byte", "bpb", "value")):
        label = str(value.get("name") or value.get("model") or name)
        yield label, {k: _figure_text(v) for k, v in value.items() if number(v) is not None or _interval(v)}
    for key, inner in value.items():
        if isinstance(inner, dict | list):
            yield from scores(inner, key)


def remarks(value: Any) -> Iterable[str]:
    """What an evaluation.json says about how it was made: split, window, notes, and the `about` of every figure."""
    if not isinstance(value, dict):
        return
    facts = [f"{k} {value[k]}" for k in ("data", "split", "documents", "window", "stride", "dtype") if value.get(k)]
    yield from [", ".join(facts)] if facts else []
    beside = value.get("beside")
    for measure in beside if isinstance(beside, list) else []:
        if dig(measure, "about"):
            yield f"{measure.get('name')}: {measure['about']}"
    notes = value.get("notes")
    yield from map(str, notes if isinstance(notes, list) else [])


def _interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(number(v) is not None for v in value)


def _figure_text(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]:.4f} – {value[1]:.4f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}" if abs(value) < 100 else f"{value:,.1f}"


def _recipe_name(run: RunData) -> str:
    return str(dig(run.config, "recipe", "name") or run.config.get("source") or "–")
