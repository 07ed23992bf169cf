"""Histograms as inline SVG and bars in tables, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from genus.report.chart import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, log_ticks, percent, short, ticks


@dataclass(frozen=True)
class Bins:
    """Counts in bins: counts[i] from edges[i] up to edges[i + 1].

    Attributes:
        colour: index of a colour. name: for the tooltips and the legend. faint: drawn behind the others, without colour.
    """

    edges: Sequence[float]
    counts: Sequence[float]
    colour: int = 0
    name: str = ""
    faint: bool = False


def histogram(
    series: Sequence[Bins], x_label: str, y_label: str, x_text: Callable[[float], str] = short, log: bool = False
) -> str:
    """An SVG element, empty when nothing was counted; the first series lies behind the others.

    Args:
        x_text: how a number on the x axis is written. log: the x axis is logarithmic; edges are then above 0.
    """
    series = [each for each in series if sum(each.counts) > 0 and len(each.edges) == len(each.counts) + 1]
    if not series:
        return ""
    across = math.log10 if log else float
    low, high = (chosen(across(edge) for each in series for edge in each.edges) for chosen in (min, max))
    if high == low:
        low, high = low - 0.5, high + 0.5
    top = 1.06 * max(max(each.counts) for each in series)
    base = HEIGHT - BOTTOM

    def x_of(value: float) -> float:
        return LEFT + (across(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y_of(count: float) -> float:
        return base - count / top * (base - TOP)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)}, {escape(x_label)}">']
    for tick in ticks(0.0, top, 6):
        y = y_of(tick)
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(short(tick))}</text>')
    for tick in log_ticks(10**low, 10**high, 6) if log else ticks(low, high, 5):
        x = x_of(tick)
        out.append(f'<path class="grid" d="M{x:.1f} {base}v4"/>')
        out.append(f'<text x="{x:.1f}" y="{base + 16}" text-anchor="middle">{escape(x_text(tick))}</text>')
    for each in series:
        kind = "bin behind" if each.faint else f"bin c{each.colour % COLOURS}"
        for (first, last), count in zip(pairwise(each.edges), each.counts, strict=True):
            if count:
                x, y = x_of(first), y_of(count)
                tip = escape(f"{each.name} {x_text(first)} – {x_text(last)}: {count:,.0f}".strip())
                width = max(0.6, x_of(last) - x - 0.6)
                out.append(
                    f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(0.8, base - y):.1f}">'
                    f"<title>{tip}</title></rect>"
                )
    out.append(f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text class="label" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join([*out, "</svg>"])


def bar(share: float, colour: int = 0, behind: float = 0.0) -> str:
    """A bar of a table: `share` of its width filled, from 0 to 1, and `behind` it fainter as far as that reaches."""
    filled, faint = (max(0.0, min(1.0, each)) for each in (share, behind))
    back = f'<i class="was" style="width:{100 * faint:.2f}%"></i>' if faint > filled else ""
    front = f'<i style="width:{100 * filled:.2f}%"></i>' if filled else ""
    return f'<span class="bar c{colour % COLOURS}">{back}{front}</span>'


def ranked(rows: Sequence[tuple[str, int]], total: int) -> list[list[str]]:
    """Rows of a table: a name (HTML), its count, its share, and a bar as long as it is frequent."""
    most = max((count for _, count in rows), default=0)
    return [
        [name, bar(count / most if most else 0.0), f"{count:,}", percent(count / total) if total else "–"] for name, count in rows
    ]
