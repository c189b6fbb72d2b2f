"""Line charts as SVG for a page, without script. Text stays text; colours follow the page's light or dark mode."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 36
COLOURS = 8
"""Number of line colours in the page's style, ``--line0`` and so on."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "14 3", "5 2", "3 5", "8 2 2 2 2 2")
"""Dash patterns: lines can be distinguished without colours, too."""


@dataclass(frozen=True)
class Line:
    """One line.

    Args:
        label: its name in the legend.
        points: (x, y), finite, in order of x.
        style: index of its colour and dashes; equal indices look the same in all panels.
        soft: draw it in grey, as a reference.
    """

    label: str
    points: Sequence[tuple[float, float]]
    style: int
    soft: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes with their lines."""

    title: str
    lines: Sequence[Line]
    x_label: str = "epoch"
    y_label: str = ""


def panel_svg(panel: Panel) -> str:
    """The panel's axes and lines; a line of one point is a dot."""
    points = [point for line in panel.lines for point in line.points]
    if not points:
        return ""
    x_low, x_high = _limits([x for x, _ in points], pad=0.0)
    y_low, y_high = _limits([y for _, y in points], pad=0.04)

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    heights = ticks(y_low, y_high)
    for y, label in zip(heights, _labels(heights), strict=True):
        parts.append(f'<path class="grid" d="M{LEFT} {down(y):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down(y) + 3.5:.1f}" text-anchor="end">{label}</text>')
    for x in (x for x in ticks(x_low, x_high) if x == round(x)):
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{x:.0f}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(panel.x_label)}</text>')
    # references lie behind the other lines
    for line in sorted(panel.lines, key=lambda line: not line.soft):
        drawn = [(across(x), down(y)) for x, y in line.points]
        if len(drawn) == 1:
            (x, y) = drawn[0]
            shape = f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"'
        else:
            shape = '<polyline points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn) + '"'
        parts.append(f"<g {_look(line)}>{shape}><title>{html.escape(line.label)}</title></{shape.split()[0][1:]}></g>")
    label = html.escape(f"{panel.title}: {panel.y_label} by {panel.x_label}", quote=True)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def legend_html(lines: Sequence[Line]) -> str:
    """The legend of some lines, each label once."""
    first = {line.label: line for line in reversed(lines)}
    entries = [
        f'<li><svg viewBox="0 0 30 8" width="30" height="8" aria-hidden="true"><g {_look(line)}>'
        f'<path d="M0 4H30"/></g></svg>{html.escape(line.label)}</li>'
        for line in sorted(first.values(), key=lambda line: line.style)
    ]
    return f'<ul class="legend">{"".join(entries)}</ul>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most ``most`` round numbers from ``low`` to ``high``; their step is 1, 2 or 5 times a power of ten."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while (high - low) / step > most - 1:
        step *= 2.5 if _leading(step) == 2 else 2
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _leading(step: float) -> int:
    power: float = 10.0 ** math.floor(math.log10(step) + 1e-9)
    return round(step / power)


def _limits(values: Sequence[float], pad: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        half = max(abs(low) * 0.1, 0.5)
        return low - half, high + half
    return low - pad * (high - low), high + pad * (high - low)


def _labels(values: Sequence[float]) -> list[str]:
    """Labels with as many digits as needed to distinguish the ticks, the same for all."""
    step = values[1] - values[0] if len(values) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    texts = [f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}" for value in values]
    return [text.removeprefix("-") if float(text) == 0 else text.replace("-", "−") for text in texts]


def _look(line: Line) -> str:
    if line.soft:
        return 'class="line soft"'
    dash = DASHES[line.style % len(DASHES)]
    return f'class="line" style="stroke:var(--line{line.style % COLOURS})"' + (
        f' stroke-dasharray="{dash}"' if dash else ""
    )
