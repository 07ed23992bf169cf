"""The family tree as a drawing: time runs down, branches stand side by side, a line leads from ancestor to descendant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

ROW, BOX, INDENT, GAP = 25, 19, 12, 22  # height of a row and of a box, step to the right per generation, space between lanes
TOP, LEFT = 74, 58
LANES = (
    ("counting", "window", "recurrent"),
    ("encoder-decoder",),
    ("encoder",),
    ("decoder",),
    ("fast-weights", "hybrid"),
    ("media",),
    ("align", "agents"),
)

STYLE = """
text { font: 13px "Helvetica Neue", Helvetica, Arial, "Noto Sans CJK SC", "PingFang SC", sans-serif; fill: #1f2430 }
.year { font-size: 12px; fill: #7a8190 } .head { font-weight: 600 } .line { stroke: #e4e7ec }
.works { fill: #d7ebdd; stroke: #2f7d4f }
.planned { fill: #f6f7f9; stroke: #98a0ae; stroke-dasharray: 3 2 } .paper { fill: #ffffff }
.edge { fill: none; stroke: #8791a1; stroke-width: 1.2 } .far { stroke: #b9c0cc; stroke-dasharray: 1 3; stroke-linecap: round }
@media (prefers-color-scheme: dark) {
text { fill: #e3e6ec } .year { fill: #98a0ae } .line { stroke: #2c313b } .paper { fill: #14171d }
.works { fill: #1d4630; stroke: #62b587 } .planned { fill: #1d2129; stroke: #6d7685 }
.edge { stroke: #7c8595 } .far { stroke: #525b69 }
}
""".strip()


def draw(entries: Iterable[Any], titles: Mapping[str, str], words: Mapping[str, Any]) -> str:
    """The drawing as an SVG document.

    Args:
        entries: systems with name, branch, year, state, summary (one text), citation, parent. titles: of the branches.
        words: names of the states.
    """
    systems = {e.name: e for e in entries}
    place = _columns(systems)
    columns = sorted(set(place.values()))
    depth = {name: len(_line(name, systems)) - 1 for name in systems}
    rows, years, height = _rows(systems, place)
    x, total, heads = _across(systems, place, columns, depth, titles)
    y = {n: TOP + rows[n] * ROW for n in systems}
    bottom = TOP + height * ROW + 6
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {bottom}" width="{total}" height="{bottom}" role="img">',
        f"<title>Genus: {escape(', '.join(titles.values()))}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{total}" height="{bottom}"/>',
        *_legend(words),
        *(f'<text class="head" x="{start}" y="{TOP - 14}">{escape(head)}</text>' for head, start in heads),
    ]
    for year, row in years.items():
        line = TOP + row * ROW - (ROW - BOX) / 2
        out.append(f'<line class="line" x1="8" x2="{total - 8}" y1="{line:g}" y2="{line:g}"/>')
        out.append(f'<text class="year" x="12" y="{TOP + row * ROW + 14}">{year}</text>')
    for name, e in systems.items():
        if e.parent:
            out.append((_near if place[name] == place[e.parent] else _far)(x, y, e.parent, name))
    for name, e in systems.items():
        out.append(f"<g><title>{escape(e.summary)} ({escape(e.citation)})</title>")
        out.append(f'<rect class="{e.state}" x="{x[name]}" y="{y[name]}" width="{_width(name)}" height="{BOX}" rx="4"/>')
        out.append(f'<text x="{x[name] + 6}" y="{y[name] + 14}">{escape(name)}</text></g>')
    return "\n".join([*out, "</svg>", ""])


def _lane(e: Any) -> int:
    return next(i for i, lane in enumerate(LANES) if e.branch in lane)


def _line(name: str, systems: Mapping[str, Any]) -> list[str]:
    """The system and its ancestors in the same lane, the newest first."""
    parent = systems[name].parent
    if parent is None or _lane(systems[parent]) != _lane(systems[name]):
        return [name]
    return [name, *_line(parent, systems)]


def _columns(systems: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(lane, column in it) of every system: families of one lane that live at the same time stand side by side."""
    families: dict[str, list[str]] = {}
    for name in systems:
        families.setdefault(_line(name, systems)[-1], []).append(name)
    result: dict[str, tuple[int, int]] = {}
    taken: dict[tuple[int, int], list[tuple[int, int, bool]]] = {}
    for root, members in families.items():
        years = [systems[n].year for n in members]
        span = min(years), max(years), len(members) > 1
        column = 0
        while any(_meet(span, other) for other in taken.get((_lane(systems[root]), column), [])):
            column += 1
        taken.setdefault((_lane(systems[root]), column), []).append(span)
        result |= dict.fromkeys(members, (_lane(systems[root]), column))
    return result


def _meet(a: tuple[int, int, bool], b: tuple[int, int, bool]) -> bool:
    """Whether two families overlap in time; two systems alone never do, since one stands below the other."""
    return a[0] <= b[1] and b[0] <= a[1] and (a[2] or b[2])


def _across(
    systems: Mapping[str, Any],
    place: Mapping[str, tuple[int, int]],
    columns: list[tuple[int, int]],
    depth: Mapping[str, int],
    titles: Mapping[str, str],
) -> tuple[dict[str, int], int, list[tuple[str, int]]]:
    """Left edge of every box, width of the drawing, and the lanes' titles with their left edges."""
    start, starts, heads = LEFT, {}, []
    for lane in sorted({lane for lane, _ in columns}):
        head = " · ".join(titles[b] for b in LANES[lane] if any(e.branch == b for e in systems.values()))
        heads.append((head, start))
        least = start + _width(head) + 8
        for column in (c for c in columns if c[0] == lane):
            starts[column] = start
            start += max(depth[n] * INDENT + _width(n) for n in systems if place[n] == column) + GAP
        start = max(start, least + GAP)
    x = {n: starts[place[n]] + depth[n] * INDENT for n in systems}
    return x, start, heads


def _width(text: str) -> int:
    """Of a box with this text, in pixels; the font is not known exactly, so a little too wide."""
    return 12 + round(sum(13 if ord(c) > 0x2E7F else 4.2 if c in "il-1 .j,·" else 10.5 if c in "mwMW" else 7.6 for c in text))


def _rows(systems: Mapping[str, Any], place: Mapping[str, tuple[int, int]]) -> tuple[dict[str, int], dict[int, int], int]:
    """Row of every system, first row of every year, number of rows. Within a year ancestors stand above descendants."""
    rows: dict[str, int] = {}
    years: dict[int, int] = {}
    next_row = 0
    for year in sorted({e.year for e in systems.values()}):
        years[year] = next_row
        used = dict.fromkeys(place.values(), 0)
        names = [n for n, e in systems.items() if e.year == year]
        for name in sorted(names, key=lambda n: (_age(n, systems), n)):
            rows[name] = next_row + used[place[name]]
            used[place[name]] += 1
        next_row += max(used.values())
    return rows, years, next_row


def _age(name: str, systems: Mapping[str, Any]) -> int:
    parent = systems[name].parent
    return 0 if parent is None else 1 + _age(parent, systems)


def _near(x: Mapping[str, int], y: Mapping[str, int], parent: str, child: str) -> str:
    """Down from the parent, then right to the child."""
    stem, middle = x[parent] + 6, y[child] + BOX / 2
    return f'<path class="edge" d="M{stem} {y[parent] + BOX} V{middle:g} H{x[child]}"/>'


def _far(x: Mapping[str, int], y: Mapping[str, int], parent: str, child: str) -> str:
    """A curve between lanes."""
    right = x[child] > x[parent]
    a = x[parent] + (_width(parent) if right else 0)
    b = x[child] if right else x[child] + _width(child)
    bend = 26 if right else -26
    top, middle = y[parent] + BOX / 2, y[child] + BOX / 2
    return f'<path class="edge far" d="M{a} {top:g} C{a + bend} {top:g} {b - bend} {middle:g} {b} {middle:g}"/>'


def _legend(words: Mapping[str, Any]) -> list[str]:
    out, x = [], LEFT
    for state in ("works", "planned"):
        out.append(f'<rect class="{state}" x="{x}" y="14" width="22" height="14" rx="4"/>')
        out.append(f'<text x="{x + 28}" y="26">{escape(words[state])}</text>')
        x += 50 + _width(words[state])
    return out
