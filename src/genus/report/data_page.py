"""The page of a prepared data folder: the funnel, sources, distributions, vocabulary, and what every rule dropped or changed.

All text that comes from the data is escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from genus.report.bars import bar, ranked
from genus.report.chart import Line, chart, percent, short
from genus.report.data_distributions import distributions
from genus.report.data_read import DataFolder, Stage, count, table
from genus.report.data_words import translator
from genus.report.difference import marked
from genus.report.markup import document, facts, figure, text_size
from genus.report.markup import table as grid
from genus.report.read import number
from genus.report.rejected import Example, Rule

Words = Callable[[str], str]

SOURCES = 40
REASONS = 40
OPEN = 6
"""Rules whose examples are shown without asking, when there are no more than these."""

STYLE = """
.bar { display: block; position: relative; min-width: 7rem; height: .8rem; }
.bar i { position: absolute; left: 0; top: 0; height: 100%; margin: 0; min-width: 1px; }
.bar .was { opacity: .25; }
.behind { fill: var(--dim); opacity: .3; } svg .bin { stroke: none; }
svg rect.bin:not(.behind) { fill: currentColor; opacity: .85; }
td.sub, .sub { padding-left: 1.2rem; color: var(--dim); }
.chips { display: flex; flex-wrap: wrap; gap: .3rem; } .chips span { background: var(--box); border-radius: 4px;
  padding: .05rem .4rem;
  white-space: pre-wrap; overflow-wrap: anywhere; min-width: 0; max-width: 100%; } .chips small { color: var(--dim); }
.rule pre { margin: .3rem 0 .8rem; } .rule del { color: var(--c5); } .rule ins { color: var(--c2); text-decoration: none; }
.rule mark { background: none; color: inherit; border-bottom: 2px solid currentColor; }
.where { font-size: .85rem; overflow-wrap: anywhere; }
td .bar { margin: .15rem 0; } td:first-child { min-width: 11rem; }
@media (max-width: 600px) { .bar { min-width: 3.5rem; } td:first-child { min-width: 7rem; } }
"""


def page(data: DataFolder, language: str = "en") -> str:
    """The HTML of the page.

    Args:
        language: of the labels, "en" or "zh".
    """
    t = translator(language)
    body = [
        f"<h1>{escape(data.name)}</h1>",
        _summary(data, t),
        _funnel(data.stages, t),
        _reasons(data.stages, t),
        _sources(data, t),
        distributions(data, t, language),
        _vocabulary(data, t),
        _splits(data, t),
        _rules(data.examples, data.stages, t),
        _notes(data, t),
    ]
    return document(data.name, [part for part in body if part], language, style=STYLE)


def _summary(data: DataFolder, t: Words) -> str:
    documents, tokens, text = (data.total(key) for key in ("documents", "tokens", "bytes"))
    read = data.stages[0].documents if data.stages else documents
    vocabulary = count(table(data.manifest, "tokenizer"), "vocab_size")
    figures = [
        ("Documents", f"{documents:,}"),
        ("Of those read", percent(documents / read) if read else "–"),
        ("Text", text_size(text)),
        ("Tokens", short(tokens)),
        ("Bytes per token", f"{text / tokens:.2f}" if tokens else "–"),
        ("Characters per token", f"{data.total('characters') / tokens:.2f}" if tokens else "–"),
        ("Vocabulary", f"{vocabulary:,}"),
        ("Sources", f"{len(data.sources):,}"),
    ]
    return facts([(t(label), text) for label, text in figures], "facts big")


def _funnel(stages: Sequence[Stage], t: Words) -> str:
    if not stages:
        return ""
    most = max([stages[0].documents, *(stage.documents for stage in stages)]) or 1
    rows, before = [], stages[0].documents
    for place, stage in enumerate(stages):
        lost, changed = sum(stage.dropped.values()), sum(stage.changed.values())
        had = before if place else stage.documents + lost
        rows.append(
            [
                escape(t(stage.step)),
                bar(stage.documents / most, behind=before / most),
                f"{stage.documents:,}",
                "–" if stage.bytes is None else text_size(stage.bytes),
                f"{lost:,} ({percent(lost / had)})" if lost and had else f"{lost:,}",
                f"{changed:,}",
            ]
        )
        before = stage.documents
    head = [t(label) for label in ("Step", "Left", "Documents", "Text", "Dropped", "Changed")]
    note = t("Each bar is what a step left; the faint part is what it took away.")
    return f'<h2>{t("The funnel")}</h2><p class="dim">{note}</p>' + grid(head, rows)


def _reasons(stages: Sequence[Stage], t: Words) -> str:
    out = []
    for title, key in (("What was dropped, by reason", "dropped"), ("What was changed, by reason", "changed")):
        found = [(stage.step, reason, n) for stage in stages for reason, n in getattr(stage, key).items() if n]
        found.sort(key=lambda each: (-each[2], each[0], each[1]))
        if not found:
            continue
        rows = ranked([(_reason(step, reason, t), n) for step, reason, n in found[:REASONS]], sum(n for *_, n in found))
        head = [t("Step and reason"), "", t("Documents"), t("Share")]
        out.append(f"<h3>{t(title)}</h3>" + grid(head, rows) + _more(len(found) - REASONS, t))
    return "".join(out)


def _reason(step: str, reason: str, t: Words) -> str:
    return f'<span class="dim">{escape(t(step))}</span> {escape(t(reason))}'


def _more(left: int, t: Words) -> str:
    return f'<p class="dim">{left:,} {t("more in manifest.json")}</p>' if left > 0 else ""


def _sources(data: DataFolder, t: Words) -> str:
    sources = sorted(data.sources, key=lambda each: (-count(each, "tokens"), str(each.get("name"))))
    if not sources:
        return ""
    most = max(count(each, "tokens") for each in sources) or 1
    steps = [stage.step for stage in data.stages if any(count(table(each, "dropped"), stage.step) for each in sources)]
    rows = []
    for each in sources[:SOURCES]:
        dropped = table(each, "dropped")
        rows.append(
            [
                _named(each),
                bar(count(each, "tokens") / most),
                f"{count(each, 'documents'):,}",
                f"{count(each, 'stored' if 'stored' in each else 'documents'):,}",
                short(count(each, "tokens")),
                *(f"{count(dropped, step):,}" for step in steps),
                *([] if steps else [f"{count(each, 'rejected'):,}"]),
            ]
        )
    columns = [f"{t('dropped by')}<br>{escape(t(step))}" for step in steps] or [t("Dropped")]
    head = [t("Source"), t("Share of tokens"), t("Documents read"), t("stored"), t("Tokens"), *columns]
    out = f"<h2>{t('Sources')}</h2>" + grid(head, rows) + _more(len(sources) - SOURCES, t)
    return out + _mixture(data, t)


def _named(value: Mapping[str, Any]) -> str:
    """The name of a source or group, with what it is and how often it is repeated."""
    copies = number(value.get("copies"))
    more = [str(value[key]) for key in ("group", "kind") if value.get(key)]
    more += [f"× {copies:.3g}"] if copies not in (None, 1.0) else []
    return f'{escape(str(value.get("name", "–")))} <span class="dim">{escape(", ".join(more))}</span>'


def _mixture(data: DataFolder, t: Words) -> str:
    groups = [value for value in data.manifest.get("mixture") or [] if isinstance(value, dict)]
    total = sum(count(value, "tokens") for value in groups)
    if not total:
        return ""
    cells = [
        [
            _named(value),
            bar(count(value, "tokens") / total),
            f"{count(value, 'documents'):,}",
            short(count(value, "tokens")),
            percent(count(value, "tokens") / total),
        ]
        for value in groups
    ]
    head = [t("Group"), "", t("Documents"), t("Tokens"), t("Share")]
    return f"<h3>{t('The mixture')}</h3>" + grid(head, cells)


def _vocabulary(data: DataFolder, t: Words) -> str:
    known = table(data.manifest, "vocabulary")
    about = table(data.manifest, "tokenizer")
    if not known and not about:
        return ""
    out = [f"<h2>{t('Vocabulary')}</h2>", f"<p>{escape(str(about.get('description', '')))}</p>"]
    if not known:
        return "".join(out)
    entries, used, tokens = (count(known, key) for key in ("entries", "used", "tokens"))
    figures = [
        (t("Entries"), f"{entries:,}"),
        (t("Met in training text"), f"{used:,} ({percent(used / entries)})" if entries else "–"),
        (t("Met fewer than 10 times"), f"{count(known, 'rare'):,}"),
        (t("Unknown tokens"), f"{count(known, 'unknown'):,} ({percent(count(known, 'unknown') / tokens)})" if tokens else "–"),
    ]
    out.append(facts(figures))
    out.append(_coverage(known, t))
    kinds = [(name, row) for name, row in table(known, "kinds").items() if isinstance(row, list) and len(row) == 3]
    if kinds:
        cells = [[escape(t(name)), bar(row[2]), f"{row[0]:,}", f"{row[1]:,}", percent(row[2])] for name, row in kinds]
        out.append(grid([t("Kind of entry"), "", t("Entries"), t("met"), t("Share of tokens")], cells))
    frequent = [each for each in known.get("frequent") or [] if isinstance(each, list) and len(each) == 2]
    if frequent:
        chips = "".join(f"<span>{_seen(str(text))} <small>{short(times)}</small></span>" for text, times in frequent)
        out.append(f'<h3>{t("Most frequent tokens")}</h3><div class="chips">{chips}</div>')
    unused = known.get("unused") or []
    if unused:
        chips = "".join(f"<span>{_seen(str(text))}</span>" for text in unused)
        out.append(f'<h3>{t("Never met")}</h3><div class="chips">{chips}</div>')
    return "".join(out)


def _seen(text: str) -> str:
    """An entry of the vocabulary on one line, white space of its own made visible."""
    shown = text.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")
    return escape(shown if shown.strip() else shown.replace(" ", "␣"))


def _coverage(known: Mapping[str, Any], t: Words) -> str:
    curve = [(float(a), float(b)) for a, b in known.get("coverage") or []]
    ranks = [(float(a), float(b)) for a, b in known.get("ranks") or []]
    covered = chart([Line(curve, 0, "marks")], t("most frequent entries"), t("Share of tokens"), short, percent, log=True)
    steep = [(rank, math.log10(max(times, 1.0))) for rank, times in ranks]
    often = chart([Line(steep, 1, "marks")], t("rank"), t("times met"), short, lambda y: short(10**y), log=True)
    pictures = [figure(covered, t("Share of the text that the most frequent entries cover"))]
    pictures.append(figure(often, t("How often entries are met, by rank; both axes logarithmic")))
    return f'<div class="charts">{"".join(pictures)}</div>'


def _splits(data: DataFolder, t: Words) -> str:
    rows = [
        [
            escape(t(name)),
            f"{count(split, 'documents'):,}",
            text_size(count(split, "bytes")),
            f"{count(split, 'tokens'):,}",
            f"{count(split, 'bytes') / count(split, 'tokens'):.2f}" if count(split, "tokens") else "–",
            _common(table(split, "overlap")),
        ]
        for name, split in data.splits.items()
    ]
    if not rows:
        return ""
    head = [t(label) for label in ("Split", "Documents", "Text", "Tokens", "Bytes per token", "Mostly in training too")]
    rule = escape(str(data.manifest.get("split_rule", "")))
    return f'<h2>{t("Splits")}</h2><p class="dim">{rule}</p>' + grid(head, rows)


def _common(overlap: Mapping[str, Any]) -> str:
    looked, mostly = count(overlap, "documents"), count(overlap, "mostly")
    return f"{mostly:,} / {looked:,} ({percent(mostly / looked)})" if looked else "–"


def _rules(examples: Mapping[Rule, Sequence[Example]], stages: Sequence[Stage], t: Words) -> str:
    if not examples:
        return ""
    order = {stage.step: place for place, stage in enumerate(stages)}
    totals = {
        Rule(stage.step, action, reason): n
        for stage in stages
        for action in ("dropped", "changed")
        for reason, n in getattr(stage, action).items()
    }
    out = [f"<h2>{t('What the rules did')}</h2>", f'<p class="dim">{t("A sample; all of it is in rejected/.")}</p>']
    for rule in sorted(examples, key=lambda each: (order.get(each.step, -1), each.action, -totals.get(each, 0), each.reason)):
        number_ = f" {totals[rule]:,}" if rule in totals else ""
        title = f'{_reason(rule.step, rule.reason, t)} <span class="dim">{t(rule.action)}{number_}</span>'
        shown = "".join(_example(example, t) for example in examples[rule])
        out.append(f'<details class="rule"{" open" if len(examples) <= OPEN else ""}><summary>{title}</summary>{shown}</details>')
    return "".join(out)


def _example(example: Example, t: Words) -> str:
    where = f'<p class="where dim">{escape(example.place)}</p>'
    if example.after is None:
        kept = f'<p class="where dim">{t("kept instead")}: {escape(example.instead)}</p>' if example.instead else ""
        return f'{where}<pre class="text">{escape(example.before)}</pre>{kept}'
    before, after = marked(example.before, example.after)
    return f'{where}<pre class="text"><del>{before}</del>\n<ins>{after}</ins></pre>'


def _notes(data: DataFolder, t: Words) -> str:
    remarks = [str(each) for each in data.manifest.get("remarks") or []]
    aside = table(data.manifest, "files_left_aside")
    left = ", ".join(f"{n:,} {suffix or t('without suffix')}" for suffix in sorted(aside) if (n := count(aside, suffix)))
    out = [f"<h2>{t('Notes')}</h2>"] if remarks or left or data.manifest.get("options") else []
    out += [f"<p>{escape(each)}</p>" for each in remarks]
    out += [f"<p>{t('Files left aside')}: {escape(left)}</p>"] if left else []
    told = {key: data.manifest[key] for key in ("fingerprint", "options", "steps", "tokenizer", "drops") if key in data.manifest}
    text = escape(json.dumps(told, indent=1, ensure_ascii=False))
    out.append(f"<details><summary>{t('Options, steps and tokenizer')}</summary><pre>{text}</pre></details>")
    return "".join(out)
