"""Write the family tree into the documents: the state of every system, and the drawing.

    python -m scripts.family_tree            write README*.md, docs/family-tree*.md and docs/family-tree*.svg
    python -m scripts.family_tree --check    exit with 1 and name what is out of date

Systems that work come from the recipe registry; systems that are planned, from planned.toml.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.family_tree_svg import draw

from genus.recipes import BRANCHES, systems
from genus.recipes.tree import BRANCHES_ZH

ROOT = Path(__file__).resolve().parent.parent
PLANNED = Path(__file__).with_name("planned.toml")
BEGIN, END = (f"<!-- family tree: {word} (python -m scripts.family_tree) -->" for word in ("begin", "end"))
STATES = ("works", "planned")

WORDS = {
    "en": {
        "works": "works",
        "planned": "planned",
        "table": ("branch", "works", "planned"),
        "page": ("system", "year", "state", "what it is", "published", "HF type"),
        "of": "{works} work, {planned} are planned.",
        "legend": "*works*: `genus train`, `evaluate` and `export` take it, and the property runner passes. "
        "*planned*: not there.",
    },
    "zh": {
        "works": "可用",
        "planned": "计划中",
        "table": ("分支", "可用", "计划中"),
        "page": ("系统", "年份", "状态", "是什么", "出处", "HF 类型"),
        "of": "{works} 个可用，{planned} 个计划中。",
        "legend": "**可用**：`genus train`、`evaluate`、`export` 都接受它，并通过全部性质测试。**计划中**：还没有。",
    },
}


@dataclass(frozen=True)
class Entry:
    """One system of the tree. `state`: one of STATES; `hf`: its model_type in transformers; `summary`: by language, or in one."""

    name: str
    branch: str
    year: int
    state: str
    summary: Any
    citation: str
    parent: str | None = None
    hf: str | None = None


def entries() -> tuple[list[Entry], dict[str, dict[str, str]]]:
    """All systems, and the titles of the branches by language, in the order in which they are shown.

    Raises:
        ValueError: a planned system is registered already, or names a branch or a parent that does not exist.
    """
    plan = tomllib.loads(PLANNED.read_text(encoding="utf-8"))
    branches = {key: {"en": title, "zh": BRANCHES_ZH[key]} for key, title in BRANCHES.items()} | plan["branches"]
    there = [
        Entry(
            s.name,
            s.branch,
            s.year,
            "works",
            {"en": s.summary, "zh": s.summary_zh},
            s.citation,
            s.parent,
            s.hf,
        )
        for s in systems()
    ]
    known = {e.name for e in there}
    for facts in plan["planned"]:
        if facts["name"] in known:
            raise ValueError(f"{facts['name']} is a recipe now: remove it from {PLANNED.name}")
        if facts["branch"] not in branches:
            raise ValueError(f"{facts['name']}: there is no branch {facts['branch']!r}")
        summary = {"en": facts["summary"], "zh": facts["summary_zh"]}
        there.append(
            Entry(facts["name"], facts["branch"], facts["year"], "planned", summary, facts["citation"], facts.get("parent"))
        )
    known = {e.name for e in there}
    for entry in there:
        if entry.parent and entry.parent not in known:
            raise ValueError(f"{entry.name}: there is no system {entry.parent!r} to descend from")
    order = list(branches)
    return sorted(there, key=lambda e: (order.index(e.branch), e.year, e.name)), branches


def state_table(language: str) -> str:
    """One row per branch: the names of its systems under their state."""
    everything, branches = entries()
    words = WORDS[language]
    lines = [_row(words["table"]), _row("---" for _ in words["table"])]
    for branch, titles in branches.items():
        names = {s: [e.name for e in everything if (e.branch, e.state) == (branch, s)] for s in STATES}
        works = " ".join(f"`{name}`" for name in names["works"])
        lines.append(_row([titles[language], works, ", ".join(names["planned"])]))
    counts = {state: sum(e.state == state for e in everything) for state in STATES}
    return "\n".join([*lines, "", words["of"].format(**counts) + " " + words["legend"]])


def full_tables(language: str) -> str:
    """A table per branch with everything that is known of its systems."""
    everything, branches = entries()
    words = WORDS[language]
    lines = [words["legend"], ""]
    for branch, titles in branches.items():
        lines += [f"## {titles[language]}", "", _row(words["page"]), _row("---" for _ in words["page"])]
        for e in everything:
            if e.branch == branch:
                name = f"`{e.name}`" if e.state != "planned" else e.name
                hf = f"`{e.hf}`" if e.hf else ""
                lines.append(_row([name, str(e.year), words[e.state], e.summary[language], e.citation, hf]))
        lines.append("")
    return "\n".join(lines).rstrip()


def _row(cells: object) -> str:
    return "| " + " | ".join(cells) + " |"  # type: ignore[call-overload]


def between(text: str, generated: str, path: Path) -> str:
    """`text` with what stands between the two marks replaced.

    Raises:
        ValueError: the marks are not there.
    """
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.S)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"{path} needs, once, the lines {BEGIN} and {END}")
    return pattern.sub(lambda _: f"{BEGIN}\n\n{generated}\n\n{END}", text)


def outputs() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    result: dict[Path, str] = {}
    for language, suffix in (("en", ""), ("zh", ".zh")):
        readme = ROOT / ("README.zh-CN.md" if suffix else "README.md")
        page = ROOT / "docs" / f"family-tree{suffix}.md"
        result[readme] = between(readme.read_text(encoding="utf-8"), state_table(language), readme)
        result[page] = between(page.read_text(encoding="utf-8"), full_tables(language), page)
        everything, branches = entries()
        titles = {branch: title[language] for branch, title in branches.items()}
        drawn = [dataclasses.replace(e, summary=e.summary[language]) for e in everything]
        result[ROOT / "docs" / f"family-tree{suffix}.svg"] = draw(drawn, titles, WORDS[language])
    return result


def main(arguments: list[str]) -> int:
    stale = [p for p, text in outputs().items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run python -m scripts.family_tree")
        return bool(stale)
    for path, text in outputs().items():
        if path in stale:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
