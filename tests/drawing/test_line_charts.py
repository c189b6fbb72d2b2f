from __future__ import annotations

import itertools
import random
import re

import pytest

from lacuna.drawing.line_charts import HEIGHT, WIDTH, Line, Panel, legend_html, panel_svg, ticks
from tests.drawing.test_html_page import read


@pytest.mark.parametrize("seed", range(5))
def test_ticks_are_few_round_and_inside(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        span = rng.uniform(0.1, 1) * 10 ** rng.randint(-6, 6)
        low = rng.uniform(-5, 5) * span
        found = ticks(low, low + span)
        assert 2 <= len(found) <= 6
        assert low - 1e-6 * span <= found[0] and found[-1] <= low + (1 + 1e-6) * span
        steps = [b - a for a, b in itertools.pairwise(found)]
        assert steps == pytest.approx([steps[0]] * len(steps))
        assert float(f"{steps[0]:.6e}".split("e")[0]) in (1, 2, 5)


def coordinates(svg: str) -> list[tuple[float, float]]:
    (points,) = re.findall(r'points="([^"]+)"', svg)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


def test_points_are_where_their_values_say() -> None:
    svg = panel_svg(Panel("p", [Line("a", [(1, 0.0), (2, 1.0), (5, 0.5)], 0)]))
    (x1, y1), (x2, y2), (x5, y5) = coordinates(svg)
    assert all(0 < x <= WIDTH for x in (x1, x2, x5)) and all(0 < y < HEIGHT for y in (y1, y2, y5))
    assert (x5 - x1) / (x2 - x1) == pytest.approx(4, rel=0.01)
    assert y2 < y5 < y1 and y5 == pytest.approx((y1 + y2) / 2, abs=0.1)


@pytest.mark.parametrize("points", [[(1, 0.5)], [(1, 0.5), (2, 0.5)], [(1, -3e9), (2, 4e9)], [(1, 1e-9), (2, 2e-9)]])
def test_any_values_can_be_drawn(points: list[tuple[float, float]]) -> None:
    svg = panel_svg(Panel("p", [Line("a", points, 3)]))
    assert "nan" not in svg and "inf" not in svg
    read(svg)  # every element is closed


def test_no_values_no_chart() -> None:
    assert panel_svg(Panel("p", [])) == "" == panel_svg(Panel("p", [Line("a", [], 0)]))


def test_labels_are_escaped_and_listed_once() -> None:
    lines = [Line("<b>", [(1, 1), (2, 2)], 0), Line("z", [(1, 1), (2, 3)], 1, soft=True)]
    svg, legend = panel_svg(Panel("<i>", lines, y_label="&")), legend_html(lines * 3)
    assert {tag for tag, _ in read(svg).tags} == {"svg", "path", "text", "g", "polyline", "title"}
    assert read(legend).text == "<b>z" and legend.count("<li>") == 2


def test_lines_can_be_told_apart_without_colours() -> None:
    lines = [Line(str(i), [(1, i), (2, i)], i) for i in range(8)]
    looks = [re.search(r"<g ([^>]*)>", legend_html([line])) for line in lines]
    dashes = [re.search(r'dasharray="([^"]*)"', look.group(1)) if look else None for look in looks]
    assert len({dash.group(1) if dash else "" for dash in dashes}) == 8
