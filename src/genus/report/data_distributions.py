"""How lengths, scores and languages of prepared documents are distributed, before and after what was dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from genus.report.bars import Bins, bar, histogram
from genus.report.chart import percent, short
from genus.report.data_read import DataFolder, Stage, bins, count, table
from genus.report.data_words import language_name
from genus.report.markup import facts, figure
from genus.report.markup import table as grid

Words = Callable[[str], str]

LANGUAGES = 40
DROPPED = " dropped"
"""What the name of a distribution ends with that is one of dropped documents only."""


def distributions(data: DataFolder, t: Words, language: str) -> str:
    """The section of the page; empty where nothing was counted."""
    histograms = table(data.manifest, "histograms")
    kept, read = (table(histograms, key) for key in ("kept", "read"))
    pictures = [_lengths(kept, read, t)]
    told = {name for stage in data.stages for name in stage.spreads}
    for name in sorted(set(kept) - {"length", "language"} - told):
        own = bins(kept[name])
        pictures.append(figure(histogram([own], t("score"), name), f"{t('Score')} {name}") if own else "")
    for stage in data.stages:
        for name, values in stage.spreads.items():
            if name != "language" and not name.endswith(DROPPED) and _numeric(values):
                pictures.append(_scores(stage, name, values, t))
    seen = [stage.spreads["language"] for stage in data.stages if "language" in stage.spreads]
    languages = _languages(table(kept, "language"), seen[0] if seen else {}, t, language)
    shown = [each for each in pictures if each]
    if not shown and not languages:
        return ""
    charts = f'<div class="charts">{"".join(shown)}</div>' if shown else ""
    return f"<h2>{t('Distributions')}</h2>{charts}{languages}{_step_figures(data.stages, t)}"


def _scores(stage: Stage, name: str, values: Mapping[str, int], t: Words) -> str:
    """The scores that a step gave: of the documents it kept, and faint behind them of those it dropped."""
    seen = _spread(values)
    gone = stage.spreads.get(name + DROPPED, {})
    left = [values[value] - gone.get(value, 0) for value in values]
    series = [_spread(dict(zip(values, left, strict=True)), t("kept"))]
    if gone:
        series.insert(0, Bins(seen.edges, seen.counts, 0, t("kept and dropped"), faint=True))
    note = t("faint: dropped by it") if gone else t("of all documents the step saw")
    return figure(histogram(series, name, t("Documents")), f"{t(stage.step)}: {name}; {note}")


def _lengths(kept: Mapping[str, Any], read: Mapping[str, Any], t: Words) -> str:
    after, before = bins(kept.get("length")), bins(read.get("length"))
    if after is None:
        return ""
    series = [Bins(after.edges, after.counts, 0, t("kept"))]
    if before is not None and sum(before.counts) != sum(after.counts):
        series.insert(0, Bins(before.edges, before.counts, 0, t("as read"), faint=True))
    picture = histogram(series, t("characters"), t("Documents"), short, log=True)
    note = t("Length of documents; faint: as read") if len(series) > 1 else t("Length of documents")
    return figure(picture, note)


def _numeric(values: Mapping[str, int]) -> bool:
    try:
        return all(float(value) == float(value) for value in values)
    except ValueError:
        return False


def _spread(values: Mapping[str, int], name: str = "", most: int = 50) -> Bins:
    """Bins of equal width for numbers that were counted one by one."""
    numbers = sorted((float(value), n) for value, n in values.items())
    low, high = (0.0, 1.0) if numbers[0][0] >= 0 and numbers[-1][0] <= 1 else (numbers[0][0], numbers[-1][0])
    width = (high - low) / most or 1.0
    counts = [0] * most
    for value, n in numbers:
        counts[min(most - 1, int((value - low) / width + 1e-9))] += n
    return Bins([low + i * width for i in range(most + 1)], counts, name=name)


def _languages(kept: Mapping[str, Any], seen: Mapping[str, int], t: Words, language: str) -> str:
    counts = {name: count(kept, name) for name in kept}
    total = sum(counts.values())
    if not total and not seen:
        return ""
    names = sorted({*counts, *seen}, key=lambda name: (-counts.get(name, 0), -seen.get(name, 0), name))[:LANGUAGES]
    most = max([*counts.values(), *seen.values()])
    rows = [
        [
            escape(language_name(name, language)),
            bar(counts.get(name, 0) / most, behind=seen.get(name, 0) / most),
            *([f"{seen.get(name, 0):,}"] if seen else []),
            f"{counts.get(name, 0):,}",
            percent(counts.get(name, 0) / total) if total else "–",
        ]
        for name in names
    ]
    head = [t("Language"), "", *([t("seen")] if seen else []), t("kept"), t("Share")]
    return f"<h3>{t('Languages')}</h3>" + grid(head, rows)


def _step_figures(stages: Sequence[Stage], t: Words) -> str:
    out = []
    for stage in stages:
        plain = [(t(name), _text(value)) for name, value in stage.figures.items() if not isinstance(value, dict | list)]
        if plain:
            out.append(f"<h3>{t('Figures of the step')} {escape(t(stage.step))}</h3>" + facts(plain))
    return "".join(out)


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if isinstance(value, float) else str(value)
