"""Line charts as inline SVG. Colours come from the page's style sheet, so that a chart follows light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 38
TINY = 1e-30
EARLY = 0.06  # share of the x axis whose values do not count for the height of the chart
BAND = 0.4  # of the height of the lines: as far as bands may widen it
MARK = 4  # room for half a mark at the edges
MOST = 240  # points drawn of one line; neighbours are averaged beyond that
COLOURS = 8  # in the style sheet: .c0 to .c7


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        points: (x, y), any number. colour: index of a colour. style: "line", "thin", "marks" (a line with a mark at every point),
        "dots" (the marks alone), "dashed", "level" (dotted, the height of the last point over the whole width) or "upright"
        (dotted, at the x of the last point over the whole height). name: for the tooltip of its marks.
        band: (x, low, high) shaded behind it.
    """

    points: Sequence[tuple[float, float]]
    colour: int = 0
    style: str = "line"
    name: str = ""
    band: Sequence[tuple[float, float, float]] = ()


def chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    zero: bool = False,
    log: bool = False,
    marks: Sequence[float] = (),
) -> str:
    """An SVG element, empty when no line has a point.

    Args:
        x_text, y_text: how a number on an axis is written. zero: the y axis begins at 0, as the x axis always does.
        log: the x axis is logarithmic, from the least to the largest x, without points at 0 or below. marks: places that may be
        named on it; () = round numbers.
    """
    lines = [_positive(line) for line in lines] if log else list(lines)
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    across = math.log10 if log else float
    xs = [across(x) for line in lines for x, _ in line.points]
    low_x, high_x = _range(xs, 0.03) if log else _range([0.0, *xs], 0.0)
    low_y, high_y = _all_heights(lines) if log else _heights(lines, zero)
    sx = (WIDTH - LEFT - RIGHT) / (high_x - low_x)
    sy = (HEIGHT - TOP - BOTTOM) / (high_y - low_y)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (across(x) - low_x) * sx, HEIGHT - BOTTOM - (y - low_y) * sy

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)}, {escape(x_label)}">']
    for tick in ticks(low_y, high_y, 6):
        y = HEIGHT - BOTTOM - (tick - low_y) * sy
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(y_text(tick))}</text>')
    for tick in log_ticks(10**low_x, 10**high_x, 6, marks) if log else ticks(low_x, high_x, 5):
        x, _ = place(tick, low_y)
        out.append(f'<path class="grid" d="M{x:.1f} {HEIGHT - BOTTOM}v4"/>')
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(x_text(tick))}</text>')
    out.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    out.append(
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>'
    )
    x0, y0, w, h = LEFT - MARK, TOP - MARK, WIDTH - LEFT - RIGHT + 2 * MARK, HEIGHT - TOP - BOTTOM + MARK
    out.append(f'<svg x="{x0}" y="{y0}" width="{w}" height="{h}" viewBox="{x0} {y0} {w} {h}">')  # cuts off what lies outside
    for line in lines:
        out += _draw(line, place, x_text, y_text)
    return "".join([*out, "</svg></svg>"])


def _draw(
    line: Line,
    place: Callable[[float, float], tuple[float, float]],
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
) -> list[str]:
    colour = f"c{line.colour % COLOURS}"
    if line.style == "level":
        _, y = place(*line.points[-1])
        return [f'<path class="{colour} level" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"><title>{escape(line.name)}</title></path>']
    if line.style == "upright":
        x, _ = place(*line.points[-1])
        return [f'<path class="{colour} level" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"><title>{escape(line.name)}</title></path>']
    out = []
    if line.band:
        edge = [place(x, high) for x, _, high in line.band] + [place(x, low) for x, low, _ in reversed(line.band)]
        out.append(f'<path class="{colour} band" d="M{_path(edge)}Z"/>')
    shown = [place(*p) for p in thin(line.points)]
    if line.style != "dots":
        out.append(f'<path class="{colour} {line.style}" d="M{_path(shown)}"/>')
    if line.style in ("marks", "dots") or len(line.points) == 1:
        for point in line.points if line.style == "dots" else thin(line.points):
            x, y = place(*point)
            tip = escape(f"{line.name} {y_text(point[1])}, {x_text(point[0])}".strip())
            out.append(f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{tip}</title></circle>')
    return out


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most MOST points: means of equally many neighbours."""
    if len(points) <= MOST:
        return points
    step = math.ceil(len(points) / MOST)
    groups = [points[i : i + step] for i in range(0, len(points), step)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _heights(lines: Sequence[Line], zero: bool) -> tuple[float, float]:
    """Range of the y axis. The steep beginning of a curve would flatten the rest, so it may leave through the top."""
    drawn = [thin(line.points) for line in lines]
    begin = EARLY * max(x for points in drawn for x, _ in points)
    late = [[y for x, y in points if x >= begin] or [points[-1][1]] for points in drawn]
    values = [y for points in drawn for _, y in points]
    return _range([min(values), max(map(max, late)), *([0.0] if zero else [])], 0.06, zero)


def _positive(line: Line) -> Line:
    """The line without what a logarithmic axis cannot show."""
    return replace(line, points=[p for p in line.points if p[0] > 0], band=[b for b in line.band if b[0] > 0])


def _all_heights(lines: Sequence[Line]) -> tuple[float, float]:
    """Range of the y axis with all points in it, and of the bands what does not flatten them."""
    values = [y for line in lines if line.style != "upright" for _, y in line.points] or [0.0]
    low, high = min(values), max(values)
    most = BAND * (high - low)
    edges = [v for line in lines for _, *ends in line.band for v in ends]
    return _range([low, high, *(min(max(v, low - most), high + most) for v in edges)], 0.06)


def _range(values: Sequence[float], margin: float, zero: bool = False) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high), TINY):  # one value
        low, high = (0.0, 2 * high) if high > TINY else (low - 1, high + 1)
    space = margin * (high - low)
    return (low if zero else low - space), high + space


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between `low` and `high`, about so many."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, about: int, marks: Sequence[float] = ()) -> list[float]:
    """Round numbers between two positive ones, evenly spread on a logarithmic axis, about so many; of `marks` if any."""
    if marks:
        inside = [t for t in marks if low <= t <= high]
        return inside[:: math.ceil(len(inside) / about)] if len(inside) > 1 else [low, high]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = [(1, (1.0, 2.0, 5.0)), (1, (1.0, 3.0)), *((n, (1.0,)) for n in (1, 2, 3, 4, 6, 8, 12, 24))]
    for every, digits in steps:
        found = [d * 10.0**e for e in range(first, last + 1) if e % every == 0 for d in digits]
        inside = [t for t in found if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(inside) <= about:
            break
    return inside if len(inside) > 1 else [t for t in ticks(low, high, 3) if t > 0]


def short(value: float) -> str:
    """12,345 as `12.3k`; 0.00012 as `0.00012`."""
    for limit, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def clock(seconds: float) -> str:
    """`45 s`, `3.5 min`, `2 h`."""
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * limit:
            return f"{seconds / limit:.3g} {unit}"
    return f"{seconds:.3g} s"


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def chance(probability: float) -> str:
    """`71 %`; never certain."""
    return "< 1 %" if probability < 0.01 else "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"
