"""Box plots of many measurements side by side. Imports no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lacuna.errors import LacunaError
from lacuna.files import replacing

COLOURS = ("#4c6ef5", "#f08c00", "#2f9e44", "#c2255c", "#7048e8")
WHISKERS = (5, 95)
"""Percentiles at which the whiskers end. Values beyond them come from other load on the machine and are not drawn."""


def box_plot(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    label: str,
    scale: float = 1.0,
    log: bool = False,
    path: Path | None = None,
) -> Image.Image:
    """Boxes (median and quartiles) with whiskers from the 5th to the 95th percentile.

    Args:
        groups: group on the axis -> series -> values. Groups may have different series.
        label: of the vertical axis, with its unit.
        scale: factor that converts the values to that unit.
        log: whether the axis is logarithmic; all values must be above 0.
        path: of the PNG to write; None: none.

    Raises:
        LacunaError: there are no series.
    """
    from matplotlib.figure import Figure  # imported here because it is slow

    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    if not series:
        raise LacunaError("A box plot needs at least one series of values.")
    figure = Figure(figsize=(1.6 + 1.1 * len(groups) * len(series) ** 0.5, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    _draw_boxes(axes, groups, series, scale)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel(label)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    picture = Image.open(buffer).convert("RGB")
    if path is not None:
        with replacing(path) as temporary:
            picture.save(temporary, format="PNG")
    return picture


def _draw_boxes(
    axes: Any, groups: Mapping[str, Mapping[str, Sequence[float]]], series: list[str], scale: float
) -> None:
    """One box for each series of each group, side by side within the group, and an entry in the legend."""
    step = 0.8 / len(series)
    for number, name in enumerate(series):
        places = [i for i, group in enumerate(groups.values()) if name in group]
        values = [[scale * value for value in group[name]] for group in groups.values() if name in group]
        axes.boxplot(
            values,
            positions=[place + (number - (len(series) - 1) / 2) * step for place in places],
            widths=0.8 * step,
            whis=WHISKERS,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": COLOURS[number % len(COLOURS)], "alpha": 0.7},
            medianprops={"color": "black"},
            manage_ticks=False,
        )
        axes.plot([], [], "s", color=COLOURS[number % len(COLOURS)], alpha=0.7, label=name)
