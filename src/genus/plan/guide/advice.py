"""The guide's page as lines of text, and the commands that would measure what it proposes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from genus.plan.guide.facts import Facts
from genus.plan.guide.findings import CHINESE, Text, written_for
from genus.plan.guide.rules import RULES
from genus.plan.options import BRANCHES
from genus.report.chart import short

WIDTH = 110

WORDS = {
    "rules": Text(
        "What to compare when (give DATA and LABELS for your own numbers)", "何时比较什么（给出 DATA 与 LABELS 即得自己的数字）"
    ),
    "when": Text("when", "若"),
    "then": Text("then", "则"),
    "why": Text("because", "因为"),
    "run": Text("What would be compared", "将要比较"),
    "nothing": Text(
        "Nothing was trained: these are reasons to measure, not results.", "以上没有训练任何模型：只是实测的理由，不是结果。"
    ),
}


def general(language: str) -> Iterator[str]:
    """The table of rules, without data."""
    yield WORDS["rules"][language]
    for rule in RULES:
        yield ""
        yield rule.question[language]
        yield f"  {WORDS['when'][language]} {rule.when[language]}"
        yield f"  {WORDS['then'][language]} {rule.then[language]}"
        yield f"  ({rule.paper})"


def general_json() -> list[dict[str, Any]]:
    """The same as plain values."""
    return [
        {"rule": r.name, "question": vars(r.question), "when": vars(r.when), "then": vars(r.then), "paper": r.paper}
        for r in RULES
    ]


def particular(facts: Facts, language: str) -> Iterator[str]:
    """What these facts suggest, each with its number and paper; then the commands."""
    yield from _header(facts, language)
    for rule in RULES:
        finding = rule.find(facts)
        if finding is not None:
            yield ""
            yield f"{rule.question[language]}: {finding.verdict[language]}"
            yield from _wrapped(f"{WORDS['why'][language]} {finding.reason[language]} ({rule.paper})", language)
    yield ""
    yield WORDS["run"][language]
    for what, command in commands(facts):
        yield f"  {what[language]}"
        yield f"    {command}"
    yield ""
    yield WORDS["nothing"][language]


def to_json(facts: Facts) -> dict[str, Any]:
    """The same as plain values."""
    found = [(rule, rule.find(facts)) for rule in RULES]
    return {
        **facts.to_json(),
        "findings": [
            {"rule": rule.name, "verdict": vars(f.verdict), "reason": vars(f.reason), "paper": rule.paper}
            for rule, f in found
            if f
        ],
        "compare": [{"what": vars(what), "command": command} for what, command in commands(facts)],
    }


def commands(facts: Facts) -> list[tuple[Text, str]]:
    """What would be run: (what it compares, the command line)."""
    pile, labels = facts.pile, facts.labels
    found: list[tuple[Text, str]] = []
    data = pile.path if pile else "DATA"
    bases = _bases(facts)
    if pile is not None and not pile.pairs and (labels is None or not written_for(labels)):
        listed = ", ".join(BRANCHES)
        what = Text(f"as language models: {listed}", f"作为语言模型：{listed}")
        found.append((what, f"genus plan {data} --budget 1h -o plans/choice"))
    if pile is not None and labels is not None:
        for base in bases:
            found.append((Text(f"pre-train {base}", f"预训练 {base}"), f"genus train {base} {data} -o runs/{base}"))
    if labels is not None:
        ways = Text(
            "majority or mean, bag of words, labels alone, frozen features, LoRA, full tuning, and for decoders a prompt",
            "多数类或均值、词袋、仅用标注、冻结特征、LoRA、全量微调，解码器另加提示",
        )
        for base in bases:
            start = f"runs/{base}" if pile is not None else base
            found.append((ways, f"genus tune {start} {labels.path} -o runs/{base}-tuned --compare"))
            ways = Text("the same from another base", "同上，另一个基座")
    elif pile is not None and pile.pairs:
        for base in bases:
            found.append((Text(f"train {base}", f"训练 {base}"), f"genus train {base} {data} -o runs/{base}"))
    return found


def _bases(facts: Facts) -> list[str]:
    """Recipes to pre-train or to train, the most promising first."""
    labels, pile = facts.labels, facts.pile
    if labels is None:
        return ["transformer", "rnnsearch"] if pile is not None and pile.pairs else []
    if labels.task == "conversation":
        return ["llama"]
    if labels.task == "sequence":
        return ["t5", "gpt2"]
    chinese = max(side.chinese for side in (labels, pile) if side is not None) > CHINESE
    encoder = "bert" if labels.two or chinese else "roberta"
    return [encoder, "gpt2", "elmo"]


def _wrapped(text: str, language: str) -> list[str]:
    """Indented lines of WIDTH columns; a Chinese character takes two of them."""
    return textwrap.wrap(text, WIDTH // 2 if language == "zh" else WIDTH, initial_indent="  ", subsequent_indent="  ")


def _header(facts: Facts, language: str) -> Iterator[str]:
    pile, labels = facts.pile, facts.labels
    if pile is not None:
        documents = "1 document" if pile.documents == 1 else f"{pile.documents:,} documents"
        yield Text(
            f"{pile.path}: {documents}, {short(pile.tokens)} tokens, {pile.bytes_per_token:.2f} bytes per token",
            f"{pile.path}：{pile.documents:,} 篇文档，{short(pile.tokens)} 个词元，每词元 {pile.bytes_per_token:.2f} 字节",
        )[language]
    if labels is not None:
        refused = f"; {labels.refused:,} rows cannot be used" if labels.refused else ""
        refused_zh = f"；{labels.refused:,} 行无法使用" if labels.refused else ""
        yield Text(
            f"{labels.path}: {labels.rows:,} rows{refused}; {labels.because}",
            f"{labels.path}：{labels.rows:,} 行{refused_zh}；任务 {labels.task}，{len(labels.classes)} 个类别",
        )[language]
