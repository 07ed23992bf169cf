"""Charts: valid SVG, the right places, readable ticks."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.report.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    chart,
    clock,
    log_ticks,
    percent,
    short,
    thin,
    ticks,
)


def draw(*lines: Line, **options: bool) -> ElementTree.Element:
    return ElementTree.fromstring(chart(lines, "x", "y <&>", short, short, **options))


def path(svg: ElementTree.Element, kind: str) -> list[tuple[float, float]]:
    d = next(e.get("d", "") for e in svg.iter("path") if kind in e.get("class", "").split())
    return [(float(a), float(b)) for a, b in re.findall(r"([-\d.]+) ([-\d.]+)", d)]


def test_a_line_runs_between_its_corners() -> None:
    svg = draw(Line([(0, 0), (10, 5)], style="line"), zero=True)
    (x0, y0), (x1, y1) = path(svg, "line")
    assert (x0, y0) == (LEFT, HEIGHT - BOTTOM)
    assert x1 == WIDTH - RIGHT and TOP <= y1 < TOP + 20  # 6 % of room above


def test_a_higher_value_stands_higher() -> None:
    points = path(draw(Line([(0, 3.0), (1, 2.0), (2, 2.5)])), "line")
    assert points[1][1] > points[2][1] > points[0][1]


def test_the_steep_beginning_may_leave_through_the_top() -> None:
    curve = [(float(i), 2 + 50 / (1 + i)) for i in range(100)]
    points = path(draw(Line(curve)), "line")
    assert points[0][1] < 0 < TOP  # cut off by the inner picture
    assert min(y for _, y in points[10:]) > TOP


def test_names_are_escaped_and_marks_have_tips() -> None:
    svg = draw(Line([(0, 1), (1, 2)], style="marks", name="<b>"))
    assert [t.text for t in svg.iter("title")] == ["<b> 1, 0", "<b> 2, 1"]
    assert svg.get("aria-label") == "y <&>, x"


def test_a_level_line_and_a_band() -> None:
    svg = draw(
        Line([(1, 2.0)], style="level", name="n"), Line([(0, 1), (2, 3)], style="dashed", band=[(0, 0.5, 1.5), (2, 2.5, 3.5)])
    )
    assert any("level" in e.get("class", "") for e in svg.iter("path"))
    assert len(path(svg, "band")) == 4


def test_nothing_to_draw_is_nothing() -> None:
    assert chart([Line([]), Line([])], "x", "y", short, short) == ""


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(-1e6, 1e6)), min_size=1, max_size=6))
def test_any_points_make_a_valid_picture(points: list[tuple[float, float]]) -> None:
    svg = draw(Line(sorted(points), style="marks"))
    assert "nan" not in ElementTree.tostring(svg, encoding="unicode").lower()


def test_many_points_become_few_with_the_same_mean() -> None:
    points = [(float(i), float(i % 10)) for i in range(10 * MOST)]
    few = thin(points)
    assert len(few) <= MOST
    assert sum(y for _, y in few) / len(few) == pytest.approx(4.5)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span, 5)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in found)


def test_numbers_for_people() -> None:
    assert [short(v) for v in (0, 0.0012, 950, 12_345, 2_500_000, 3e9)] == ["0", "0.0012", "950", "12.3k", "2.5M", "3B"]
    assert [clock(v) for v in (0, 45, 119, 210, 7200, 200_000)] == ["0 s", "45 s", "119 s", "3.5 min", "2 h", "2.31 d"]
    assert percent(0.4123) == "41.2 %"


def test_a_logarithmic_axis_spreads_factors_evenly() -> None:
    svg = draw(Line([(0.0, 9.0), (1, 3.0), (10, 2.0), (100, 1.0)], style="marks"), log=True)
    points = path(svg, "marks")
    assert len(points) == 3  # what lies at 0 cannot be shown
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)
    assert points[0][1] < points[1][1] < points[2][1]  # the first point does not leave through the top
    assert points[0][1] > TOP


def test_dots_have_no_line_and_an_upright_stands_at_its_place() -> None:
    svg = draw(Line([(1, 1), (3, 2)], style="dots", name="n"), Line([(3, 0)], style="upright", name="budget"), log=True)
    kinds = [e.get("class", "") for e in svg.iter("path")]
    assert not any("dots" in kind for kind in kinds)
    upright = next(e for e in svg.iter("path") if "level" in e.get("class", ""))
    assert [t.text for t in svg.iter("title")] == ["n 1, 1", "n 2, 3", "budget"]
    assert upright.get("d", "").endswith(f"V{HEIGHT - BOTTOM}")


def test_a_wide_band_does_not_flatten_the_lines() -> None:
    svg = draw(Line([(1, 1.0), (10, 2.0)], band=[(1, -50, 50), (10, -50, 50)], style="line"), log=True)
    (_, low), (_, high) = path(svg, "line")
    assert low - high > 0.4 * (HEIGHT - TOP - BOTTOM)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-6, 1e15), st.floats(1.05, 1e12))
def test_ticks_of_a_logarithmic_axis(low: float, ratio: float) -> None:
    found = log_ticks(low, low * ratio, 6)
    assert 1 <= len(found) <= 7
    assert all(low * (1 - 1e-6) <= t <= low * ratio * (1 + 1e-6) for t in found)
